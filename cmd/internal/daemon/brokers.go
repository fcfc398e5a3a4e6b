package daemon

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/gatehouse-edge/gatehouse/actors/brokers"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
	"github.com/gatehouse-edge/gatehouse/projections"
)

// OpBrokerRemove is an operation of the admin service: BrokerRequest → BrokerRemoved.
const OpBrokerRemove = "broker-remove"

// mayAsk says whether a broker may ask at all: one that was removed may not, also where an
// external NATS server still lets it in.
func (d *Daemon) mayAsk(broker messages.BrokerID, _ authapi.Op) bool {
	rights, _ := d.views.BrokerRights(broker)
	return !rights.Removed
}

// mayHave says whether a broker may have certificates of a type.
func (d *Daemon) mayHave(broker messages.BrokerID, usage authapi.CertificateType) bool {
	types := d.certificatesOf(broker)
	for _, needed := range strings.Split(string(usage), "_AND_") { // CLIENT_AND_SERVER takes both
		if !slices.Contains(types, needed) {
			return false
		}
	}
	return true
}

// certificatesOf lists the types that broker may have.
func (d *Daemon) certificatesOf(broker messages.BrokerID) []string {
	rights, said := d.views.BrokerRights(broker)
	switch {
	case !said:
		return projections.DefaultCertificates()
	case rights.Removed:
		return nil
	}
	return rights.Certificates
}

// permit puts on record which types of certificates a broker may have, if that is new. nil
// leaves what it might have, and gives one that was removed what a new one has.
func (d *Daemon) permit(ctx context.Context, broker messages.BrokerID, want *[]string) error {
	rights, _ := d.views.BrokerRights(broker)
	now := d.certificatesOf(broker)
	types := now
	switch {
	case want != nil:
		types = slices.Compact(slices.Sorted(slices.Values(*want)))
	case rights.Removed:
		types = projections.DefaultCertificates()
	}
	for _, t := range types {
		if t != string(authapi.CertificateServer) && t != string(authapi.CertificateClient) {
			return messages.Refuse(messages.RefusedInvalidArguments, "certificates: %.40q, want SERVER or CLIENT; both together also allow CLIENT_AND_SERVER", t)
		}
	}
	left := slices.DeleteFunc(slices.Clone(now), func(t string) bool { return !slices.Contains(types, t) })
	if len(left) < len(now) {
		err := d.noteBroker(ctx, &messages.BrokerRestricted{Broker: string(broker), Certificates: left})
		d.courier.Review(broker) // also if that may not be on record
		d.endComponent(broker)
		if err != nil {
			return err
		}
	}
	if len(left) < len(types) || rights.Removed {
		return d.noteBroker(ctx, &messages.BrokerPermitted{Broker: string(broker), Certificates: types})
	}
	return nil
}

func (d *Daemon) noteBroker(ctx context.Context, e messages.Event) error {
	_, err := d.sys.Do(ctx, messages.Note{Stream: messages.StreamBrokers, Event: e}, messages.Cause{Request: "operator"})
	return err
}

// parseBroker reads a broker's name that came over the wire: it names a file, and must not
// name us or an operator.
func parseBroker(name messages.BrokerID) error {
	if _, err := authapi.ParseBroker(string(name)); err != nil {
		return messages.Refuse(messages.RefusedInvalidArguments, "%v", err)
	}
	return nil
}

// brokerAdd makes credentials for a broker and lets it in at once: at the embedded server;
// for an external one the answer has the entry to add to that server's users.
func (d *Daemon) brokerAdd(ctx context.Context, q BrokerRequest) (BrokerAdded, error) {
	if err := parseBroker(q.Name); err != nil {
		return BrokerAdded{}, err
	}
	d.admitting.Lock()
	defer d.admitting.Unlock()
	if err := d.permit(ctx, q.Name, q.Certificates); err != nil {
		return BrokerAdded{}, err
	}
	c, err := d.users.ensure(string(q.Name))
	if err != nil {
		return BrokerAdded{}, messages.Refuse(messages.RefusedInvalidArguments, "%v", err)
	}
	if err := d.letIn(string(q.Name), c.Public); err != nil {
		return BrokerAdded{}, messages.Refuse(messages.RefusedInvalidArguments, "%v", err)
	}
	d.pusher.Load().AddBroker(q.Name)
	var entry strings.Builder
	if err := brokers.WriteUserConfig(&entry, brokers.User{Name: string(q.Name), Public: c.Public}); err != nil {
		return BrokerAdded{}, err
	}
	return BrokerAdded{
		Name: q.Name, File: CredsFile(d.cfg.Dir, string(q.Name)), URL: d.NATSURL(), External: d.server == nil, Entry: entry.String(),
		Certificates: append([]string{}, d.certificatesOf(q.Name)...),
	}, nil
}

// brokerRemove takes a broker's keys, ends its connections, subscriptions and sessions, and
// puts on record that it may not ask any more.
func (d *Daemon) brokerRemove(ctx context.Context, q BrokerRequest) (BrokerRemoved, error) {
	if err := parseBroker(q.Name); err != nil {
		return BrokerRemoved{}, err
	}
	if q.Name == localBroker {
		return BrokerRemoved{}, messages.Refuse(messages.RefusedInvalidArguments, "%s is the embedded broker: take mqtt out of the configuration instead", q.Name)
	}
	d.admitting.Lock()
	defer d.admitting.Unlock()
	if d.server != nil && !d.users.knows(string(q.Name)) {
		return BrokerRemoved{}, messages.Refuse(messages.RefusedInvalidArguments, "there is no broker %s; those that are, have their credentials in %s", q.Name, BrokersDir(d.cfg.Dir))
	}
	noted := d.noteBroker(ctx, &messages.BrokerRestricted{Broker: string(q.Name), Removed: true}) // it is refused from here on
	d.courier.Forget(q.Name)
	d.endComponent(q.Name)
	if err := d.users.remove(string(q.Name)); err != nil {
		return BrokerRemoved{}, fmt.Errorf("remove the credentials of %s: %w", q.Name, err)
	}
	if d.server != nil {
		if err := d.server.RemoveUser(string(q.Name)); err != nil {
			return BrokerRemoved{}, err
		}
	}
	d.pusher.Load().RemoveBroker(q.Name)
	open := d.views.SessionsOf(q.Name)
	d.closeSessions(open, "the broker was removed", messages.Cause{Request: "operator"})
	if noted != nil {
		return BrokerRemoved{}, noted
	}
	d.logger.Info("broker removed", "broker", q.Name, "sessions", len(open))
	return BrokerRemoved{Name: q.Name, Sessions: len(open), External: d.server == nil}, nil
}

// endComponent puts on record that the sessions of an internal component that is none any
// more have ended.
func (d *Daemon) endComponent(broker messages.BrokerID) {
	name, err := messages.ParseComponentName(string(broker))
	if rights, _ := d.views.BrokerRights(broker); err == nil && rights.NoComponent {
		d.closeComponent(name, "it may have no client certificate any more")
	}
}

// closeComponent puts on record that a component's sessions have ended: the read models
// serve none of them since the decision.
func (d *Daemon) closeComponent(name messages.ComponentName, why string) {
	d.sys.Submit(context.Background(), messages.CloseSessions{
		Component: name, Reason: messages.CloseReason_CLOSE_BY_OPERATOR, Detail: why,
	}, messages.Cause{Request: "operator"}, func(messages.Reply) {})
}

// closeSessions ends sessions whose broker does not.
func (d *Daemon) closeSessions(list []*projections.Session, why string, cause messages.Cause) {
	for _, s := range list {
		d.sys.Submit(context.Background(), messages.CloseSession{
			Thing: s.Thing, Component: s.Component, Session: s.Digest, Reason: messages.CloseReason_CLOSE_BY_BROKER, Detail: why,
		}, cause, func(messages.Reply) {})
	}
}
