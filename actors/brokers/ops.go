package brokers

import (
	"errors"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

func (d *Desk) verify(q *request) error {
	body, err := authapi.ParseVerifyRequest(q.body)
	if err != nil {
		return err
	}
	der, err := authapi.CertificateDER(body.Credential.ClientDeviceCertificate)
	if errors.Is(err, authapi.ErrBadCertificate) {
		// client-device-auth spec 7.2: a bad certificate body is false, not an error.
		q.answer(false, authapi.VerifyReply{})
		return nil
	}
	if err != nil {
		return err
	}
	d.cfg.Gate.VerifyIdentity(q.caller, der, func(valid bool, err error) {
		q.guard(func() {
			if err != nil {
				q.refuse(authapi.RefusalFor(err))
				return
			}
			q.answer(valid, authapi.VerifyReply{IsValidClientDevice: valid})
		})
	})
	return nil
}

func (d *Desk) token(q *request) error {
	body, err := authapi.ParseTokenRequest(q.body)
	if err != nil {
		return err
	}
	der, err := authapi.CertificateDER(body.Credential.MQTT.CertificatePEM)
	if err != nil {
		return err
	}
	d.cfg.Gate.OpenSession(q.caller, body.Credential.MQTT.ClientID, der, func(s Session, err error) {
		q.guard(func() {
			if err == nil && s.Token == "" {
				err = errors.New("the gate opened a session without a token")
			}
			if err != nil {
				q.refuse(authapi.RefusalFor(err))
				return
			}
			if !q.answer(true, authapi.TokenReply{ClientDeviceAuthToken: string(s.Token)}) {
				d.abandon(q.caller, s.Token)
			}
		})
	})
	return nil
}

func (d *Desk) authenticate(q *request) error {
	body, err := authapi.ParseAuthenticateRequest(q.body)
	if err != nil {
		return err
	}
	var der []byte // nil: the client presented none; the gate refuses it and says so in the log
	if body.CertificatePEM != "" {
		if der, err = authapi.CertificateDER(body.CertificatePEM); err != nil {
			return err
		}
	}
	d.cfg.Gate.Authenticate(q.caller, body.ClientID, der, func(g Grant, err error) {
		q.guard(func() {
			if err == nil && g.ConnectAuthorized && g.Token == "" {
				err = errors.New("the gate authorized a connect without a token")
			}
			if err != nil {
				q.refuse(authapi.RefusalFor(err))
				return
			}
			if !q.grant(g) && g.Token != "" {
				d.abandon(q.caller, g.Token)
			}
		})
	})
	return nil
}

func (d *Desk) permissions(q *request) error {
	body, err := authapi.ParseTokenOnlyRequest(q.body)
	if err != nil {
		return err
	}
	g, err := d.cfg.Gate.Permissions(q.caller, []byte(body.ClientDeviceAuthToken))
	if err != nil {
		return err
	}
	q.grant(g)
	return nil
}

func (d *Desk) close(q *request) error {
	body, err := authapi.ParseTokenOnlyRequest(q.body)
	if err != nil {
		return err
	}
	d.cfg.Gate.CloseSession(q.caller, []byte(body.ClientDeviceAuthToken), func(err error) {
		q.guard(func() {
			if err != nil {
				q.refuse(authapi.RefusalFor(err))
				return
			}
			q.answer(true, authapi.CloseReply{})
		})
	})
	return nil
}

// abandon closes a session whose token was never sent, because it was opened too late or
// the reply did not leave: nobody else can close it.
func (d *Desk) abandon(c Caller, token messages.Token) {
	d.cfg.Gate.CloseSession(c, []byte(token), func(err error) {
		if err != nil {
			d.cfg.Log.Warn("session that its broker does not know of is still open", "token", token, "broker", c.Broker, "error", err)
		}
	})
}

// grantReply writes a grant as the wire has it. Without a connect there is no token and
// no permission, whatever the gate returned.
func grantReply(g Grant) authapi.GrantReply {
	reply := authapi.GrantReply{
		IsConnectAuthorized: g.ConnectAuthorized,
		ThingName:           string(g.Thing),
		CertificateID:       string(g.CertificateID),
		PolicyRevision:      g.PolicyRevision,
		ExpiresAt:           g.ExpiresAt,
		CacheTTLMs:          uint64(max(0, g.CacheTTL) / time.Millisecond),
		DecisionID:          g.DecisionID,
	}
	if g.ConnectAuthorized {
		reply.ClientDeviceAuthToken = string(g.Token)
		reply.Permissions = g.Permissions
	}
	return reply
}

// shedEvery is how many authorizations pass between two looks at the backlog.
const shedEvery = 64

// timedEvery is how many authorizations one measurement of their time stands for.
const timedEvery = 16

// authorizer makes the callback of authorize: one goroutine reads, decides and answers,
// with no queue between, because the decision costs less than handing it over. What it
// reuses belongs to that goroutine.
func (d *Desk) authorizer() nats.MsgHandler {
	a := &authorizer{desk: d, counters: d.ops[authapi.OpAuthorize], out: make([]byte, 0, authapi.AuthorizeReplyMaxBytes)}
	return a.serve
}

type authorizer struct {
	desk     *Desk
	counters *counters
	body     authapi.AuthorizeRequest
	out      []byte
	seen     uint64
	shedding bool // too many are waiting: answer Busy until half of them are gone
}

func (a *authorizer) serve(m *nats.Msg) {
	d := a.desk
	broker, ok := d.caller(m, a.counters)
	if !ok {
		return
	}
	if refusal := d.enter(); refusal != nil {
		d.refuse(a.counters, m.Reply, refusal)
		return
	}
	defer d.leave()
	// Two looks at the clock a request would be a twentieth of its cost: one request in
	// so many stands for all.
	var start time.Time
	if a.seen%timedEvery == 0 {
		start = d.cfg.Clock.Now()
	}
	verdict, err := a.judge(m, broker)
	if err != nil {
		d.refuse(a.counters, m.Reply, authapi.RefusalFor(err))
		return
	}
	if verdict.Allowed {
		a.counters.allowed.Add(1)
	} else {
		a.counters.denied.Add(1)
	}
	a.out = authapi.AuthorizeReply{IsAuthorized: verdict.Allowed, AsOf: verdict.AsOf, PolicyRevision: verdict.PolicyRevision}.AppendTo(a.out[:0])
	if err := d.cfg.Conn.Publish(m.Reply, a.out); err != nil {
		d.unsent(a.counters, err)
	}
	if !start.IsZero() {
		a.counters.timeNs.Add(timedEvery * int64(d.cfg.Clock.Now().Sub(start)))
	}
}

func (a *authorizer) judge(m *nats.Msg, broker messages.BrokerID) (v Verdict, err error) {
	defer func() {
		if p := recover(); p != nil {
			v, err = Verdict{}, a.desk.recovered(a.counters, p)
		}
	}()
	if !a.desk.cfg.Permit(broker, authapi.OpAuthorize) {
		return Verdict{}, messages.Refuse(messages.RefusedUnauthorized, "broker %s may not ask authorize", broker)
	}
	if a.overloaded(m.Sub) {
		return Verdict{}, a.desk.busy("too many authorize requests are waiting")
	}
	if err := a.body.Parse(m.Data); err != nil {
		return Verdict{}, err
	}
	return a.desk.cfg.Gate.Authorize(broker, a.body.Token, a.body.Operation, a.body.Resource)
}

// overloaded looks at the backlog now and then, because asking the library takes a lock
// that its reader needs for every message; while shedding it looks every time, so that
// nobody is turned away after the backlog is gone.
func (a *authorizer) overloaded(sub *nats.Subscription) bool {
	if a.seen++; a.seen%shedEvery != 0 && !a.shedding {
		return false
	}
	waiting, _, err := sub.Pending()
	limit := a.desk.cfg.ReadLimit
	if a.shedding {
		limit /= 2
	}
	a.shedding = err == nil && waiting > limit
	return a.shedding
}
