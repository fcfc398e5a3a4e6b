package clienttest

import (
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
	"github.com/gatehouse-edge/gatehouse/messages/permission"
)

// answer answers one request.
func (d *Desk) answer(op authapi.Op, m *nats.Msg) {
	if err := authapi.CheckReply(d.broker, m.Reply); err != nil {
		d.t.Errorf("clienttest: %s: %v", op, err)
		return
	}
	d.mu.Lock()
	d.asked[op]++
	d.announce()
	before := d.before[op]
	d.mu.Unlock()
	if before != nil {
		before()
	}

	d.mu.Lock()
	reply, err := d.decide(op, m.Data)
	after := d.after[op]
	d.announce()
	d.mu.Unlock()
	if after != nil {
		after()
	}

	out := nats.NewMsg(m.Reply)
	if err != nil {
		refusal := authapi.RefusalFor(err)
		out.Header.Set(authapi.HeaderError, refusal.Code.String())
		out.Header.Set(authapi.HeaderMicroCode, authapi.MicroCode(refusal.Code))
		out.Header.Set(authapi.HeaderMicroText, refusal.Code.String())
		reply = authapi.ErrorReplyFor(refusal)
	}
	if out.Data, err = authapi.Encode(reply); err != nil {
		d.t.Errorf("clienttest: %s: %v", op, err)
		return
	}
	_ = d.conn.PublishMsg(out) // the connection may be broken on purpose
}

// decide decides op. d.mu is held.
func (d *Desk) decide(op authapi.Op, body []byte) (any, error) {
	if refusal := d.refuse[op]; refusal != nil {
		return nil, refusal
	}
	switch op {
	case authapi.OpVerify:
		q, err := authapi.ParseVerifyRequest(body)
		if err != nil {
			return nil, err
		}
		id, err := certificateID(q.Credential.ClientDeviceCertificate)
		if err != nil {
			return nil, err
		}
		_, known := d.devices[id]
		return authapi.VerifyReply{IsValidClientDevice: known}, nil
	case authapi.OpToken:
		q, err := authapi.ParseTokenRequest(body)
		if err != nil {
			return nil, err
		}
		s, err := d.open(q.Credential.MQTT.ClientID, q.Credential.MQTT.CertificatePEM)
		return authapi.TokenReply{ClientDeviceAuthToken: string(s.token)}, err
	case authapi.OpAuthenticate:
		return d.authenticate(body)
	case authapi.OpPermissions, authapi.OpClose:
		q, err := authapi.ParseTokenOnlyRequest(body)
		if err != nil {
			return nil, err
		}
		s, err := d.session(q.ClientDeviceAuthToken)
		if err != nil {
			return nil, err
		}
		if op == authapi.OpClose {
			delete(d.sessions, s.token.Digest())
			return authapi.CloseReply{}, nil
		}
		return d.grant(s), nil
	case authapi.OpAuthorize:
		return d.authorize(body)
	}
	return nil, fmt.Errorf("no operation %q", op)
}

func (d *Desk) authenticate(body []byte) (any, error) {
	q, err := authapi.ParseAuthenticateRequest(body)
	if err != nil {
		return nil, err
	}
	s, err := d.open(q.ClientID, q.CertificatePEM)
	if err != nil {
		return nil, err
	}
	grant := d.grant(s)
	if !grant.IsConnectAuthorized {
		delete(d.sessions, s.token.Digest())
	}
	return grant, nil
}

func (d *Desk) authorize(body []byte) (any, error) {
	var q authapi.AuthorizeRequest
	if err := q.Parse(body); err != nil {
		return nil, err
	}
	s, err := d.session(string(q.Token))
	if err != nil {
		return nil, err
	}
	set, err := permission.Compile(d.permissions(s.thing))
	if err != nil {
		return nil, err
	}
	answer := set.Allows(string(q.Operation), string(q.Resource))
	return authapi.AuthorizeReply{IsAuthorized: answer.Allowed, PolicyRevision: d.revision}, answer.Err
}

// open opens a session, if the certificate is that of the thing clientID.
func (d *Desk) open(clientID, certificate string) (session, error) {
	id, err := certificateID(certificate)
	if err != nil {
		return session{}, err
	}
	thing, known := d.devices[id]
	if id == "" {
		thing, known = d.nobody, d.nobody != ""
	}
	if !known || string(thing) != clientID {
		return session{}, messages.Refuse(messages.RefusedInvalidCredential, "certificate %s is not %q's", id, clientID)
	}
	s := session{token: messages.NewToken(), thing: thing, cert: id}
	d.sessions[s.token.Digest()] = s
	return s, nil
}

func (d *Desk) session(token string) (session, error) {
	s, ok := d.sessions[messages.Token(token).Digest()]
	if !ok {
		return session{}, messages.Refuse(messages.RefusedInvalidToken, "no such session")
	}
	return s, nil
}

// permissions are those of thing.
func (d *Desk) permissions(thing messages.ThingName) []permission.Permission {
	var out []permission.Permission
	for _, p := range d.policy {
		p.Resource = strings.ReplaceAll(p.Resource, permission.ThingNameVariable, string(thing))
		out = append(out, p)
	}
	return out
}

// grant is what s may do. Who may connect is part of the policy, as in the daemon.
func (d *Desk) grant(s session) authapi.GrantReply {
	list := d.permissions(s.thing)
	set, err := permission.Compile(list)
	if err != nil {
		d.t.Errorf("clienttest: %v", err)
	}
	if !set.Allows("mqtt:connect", "mqtt:clientId:"+string(s.thing)).Allowed {
		return authapi.GrantReply{ThingName: string(s.thing), CertificateID: string(s.cert), PolicyRevision: d.revision}
	}
	g := authapi.GrantReply{
		IsConnectAuthorized: true, ClientDeviceAuthToken: string(s.token),
		ThingName: string(s.thing), CertificateID: string(s.cert),
		Permissions: list, PolicyRevision: d.revision,
		ExpiresAt: d.expires, CacheTTLMs: uint64(d.ttl.Milliseconds()), DecisionID: "test",
	}
	if d.omit {
		g.Permissions, g.PermissionsOmitted = nil, true
	}
	return g
}
