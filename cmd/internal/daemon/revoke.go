package daemon

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/actors/ca"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

// RevokeRequest asks to take back that Name is an internal component.
type RevokeRequest struct {
	Name   string `json:"name"`
	Reason string `json:"reason,omitempty"`
}

// Revoked says what was taken back.
type Revoked struct {
	Name         messages.ComponentName `json:"name"`
	Certificates int                    `json:"certificates"` // that counted
	Sessions     int                    `json:"sessions"`     // that were open
	// Broker: it is a broker that might ask for client certificates, and may no more.
	Broker bool `json:"broker,omitempty"`
}

// revokeComponent takes back that anybody is the internal component of a name by a
// certificate issued so far. A broker that might ask for the next loses that right, too,
// before: it would have another at once, for the same key.
func (d *Daemon) revokeComponent(ctx context.Context, q RevokeRequest) (Revoked, error) {
	a := d.authority.Load()
	name, err := messages.ParseComponentName(q.Name)
	if err != nil {
		return Revoked{}, messages.Refuse(messages.RefusedInvalidArguments, "%v", err)
	}
	reason, err := operatorsReason(q.Reason, "asked to revoke")
	if err != nil {
		return Revoked{}, err
	}
	d.admitting.Lock()
	defer d.admitting.Unlock()
	r := Revoked{Name: name, Sessions: d.views.ComponentSessions(name)}
	broker := messages.BrokerID(name)
	var restricted error
	if types := d.certificatesOf(broker); slices.Contains(types, string(authapi.CertificateClient)) {
		left := slices.DeleteFunc(slices.Clone(types), func(t string) bool { return t == string(authapi.CertificateClient) })
		restricted = d.permit(ctx, broker, &left)
		r.Broker = true
	}
	r.Certificates, err = a.Withdraw(ctx, name, reason) // also if the former is not on record
	d.closeComponent(name, strings.TrimPrefix(reason, ca.ReasonOperator))
	if errors.Is(err, actors.ErrNoComponent) && r.Broker {
		err = nil
	}
	if err := errors.Join(restricted, err); err != nil {
		return Revoked{}, refusal(err)
	}
	return r, nil
}
