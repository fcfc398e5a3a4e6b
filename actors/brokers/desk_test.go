package brokers

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

func quotedJSON(t testing.TB, v any) string {
	t.Helper()
	b, err := authapi.Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestABrokersDay follows one client from connect to close, in process and over TCP.
func TestABrokersDay(t *testing.T) {
	h := startHouse(t, nil)
	_, cert := h.gate.certificate(t, "sensor-1")
	tcp := h.broker(t, "a")
	inside, err := nats.Connect("", nats.InProcessServer(h.server), nats.UserCredentialBytes(credentialsOf(t, h.server, "a").File()), nats.CustomInboxPrefix(authapi.InboxPrefix("a")))
	if err != nil {
		t.Fatal(err)
	}
	defer inside.Close()
	for name, nc := range map[string]*nats.Conn{"TCP": tcp, "in process": inside} {
		body, refusal := ask(t, nc, "a", authapi.OpAuthenticate, quotedJSON(t, authapi.AuthenticateRequest{ClientID: "sensor-1", CertificatePEM: cert}))
		if refusal != nil {
			t.Fatalf("%s: authenticate: %v", name, refusal)
		}
		grant, err := authapi.ParseGrantReply([]byte(body))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !grant.IsConnectAuthorized || grant.ThingName != "sensor-1" || len(grant.Permissions) != 1 || grant.CacheTTLMs != 60000 || grant.PolicyRevision != 7 || grant.ExpiresAt.IsZero() {
			t.Errorf("%s: got %+v", name, grant)
		}
		if !strings.HasPrefix(grant.DecisionID, "test1-") {
			t.Errorf("%s: request is named %q, want test1-…", name, grant.DecisionID)
		}
		token := grant.ClientDeviceAuthToken
		for resource, want := range map[string]bool{"mqtt:topic:sensors/sensor-1/t": true, "mqtt:topic:sensors/sensor-2/t": false} {
			body, refusal := ask(t, nc, "a", authapi.OpAuthorize, string(authapi.AppendAuthorizeRequest(nil, token, "mqtt:publish", resource)))
			reply, err := authapi.ParseAuthorizeReply([]byte(body))
			if refusal != nil || err != nil || reply.IsAuthorized != want || reply.AsOf != 42 || reply.PolicyRevision != 7 {
				t.Errorf("%s: %s: got %+v, %v, %v", name, resource, reply, refusal, err)
			}
		}
		only := quotedJSON(t, authapi.TokenOnlyRequest{ClientDeviceAuthToken: token})
		if body, refusal := ask(t, nc, "a", authapi.OpPermissions, only); refusal != nil || !strings.Contains(body, token) {
			t.Errorf("%s: permissions: got %s, %v", name, body, refusal)
		}
		for range 2 { // closing twice is no error
			if body, refusal := ask(t, nc, "a", authapi.OpClose, only); refusal != nil || body != "{}" {
				t.Errorf("%s: close: got %s, %v", name, body, refusal)
			}
		}
		if _, refusal := ask(t, nc, "a", authapi.OpAuthorize, string(authapi.AppendAuthorizeRequest(nil, token, "mqtt:publish", "x"))); refusal == nil || refusal.Code != messages.RefusedInvalidToken {
			t.Errorf("%s: authorize after close: got %v", name, refusal)
		}
	}
}

func TestATokenIsGoodForItsBrokerOnly(t *testing.T) {
	h := startHouse(t, nil)
	_, cert := h.gate.certificate(t, "sensor-1")
	a, b := h.broker(t, "a"), h.broker(t, "b")
	body, refusal := ask(t, a, "a", authapi.OpAuthenticate, quotedJSON(t, authapi.AuthenticateRequest{ClientID: "sensor-1", CertificatePEM: cert}))
	grant, err := authapi.ParseGrantReply([]byte(body))
	if refusal != nil || err != nil {
		t.Fatal(refusal, err)
	}
	token := grant.ClientDeviceAuthToken
	if _, refusal := ask(t, b, "b", authapi.OpAuthorize, string(authapi.AppendAuthorizeRequest(nil, token, "mqtt:publish", "mqtt:topic:sensors/sensor-1/t"))); refusal == nil || refusal.Code != messages.RefusedInvalidToken {
		t.Errorf("authorize: got %v, want InvalidClientDeviceAuthToken", refusal)
	}
	if _, refusal := ask(t, b, "b", authapi.OpPermissions, quotedJSON(t, authapi.TokenOnlyRequest{ClientDeviceAuthToken: token})); refusal == nil || refusal.Code != messages.RefusedInvalidToken {
		t.Errorf("permissions: got %v, want InvalidClientDeviceAuthToken", refusal)
	}
}

// TestHostileReplySubjectsReachNobody is reliability spec R11 and C7: broker a asks for
// its replies to go elsewhere. Everyone who could hear them listens.
func TestHostileReplySubjectsReachNobody(t *testing.T) {
	h := startHouse(t, nil)
	a, b := h.broker(t, "a"), h.broker(t, "b")
	heard := make(chan *nats.Msg, 4096) // filled by the reader itself: full after a flush
	hear := func(nc *nats.Conn, subjects ...string) {
		for _, s := range subjects {
			if _, err := nc.ChanSubscribe(s, heard); err != nil {
				t.Fatal(err)
			}
		}
		if err := nc.FlushTimeout(patience); err != nil {
			t.Fatal(err)
		}
	}
	hear(b, "_INBOX_b.>", authapi.PushSubjects("b"))
	hear(a, authapi.PushSubjects("a"))
	all, err := newCredentials("ears") // hears all there is
	if err != nil {
		t.Fatal(err)
	}
	h.server.users.mu.Lock()
	h.server.users.users[all.Public] = registered{name: "ears"}
	h.server.users.mu.Unlock()
	option, err := all.option()
	if err != nil {
		t.Fatal(err)
	}
	ears, err := nats.Connect(h.server.URL(), option)
	if err != nil {
		t.Fatal(err)
	}
	defer ears.Close()
	hear(ears, ">")
	hostile := []string{
		"_INBOX_b.stolen", "_INBOX_b.x.y", "_INBOX_ab.x", "_INBOX.x", "_inbox_a.x", "_INBOX_a", "_INBOX_a_.x", "_INBOX_gatehouse.x",
		"_INBOX_admin.x", "_INBOX_auditor.x",
		authapi.PushSubject("b", authapi.PushSessionClosed), authapi.PushSubject("b", authapi.PushPolicyChanged),
		authapi.PushSubject("a", authapi.PushHeartbeat), "gatehouse.v1.push.all",
		authapi.Subject("a", authapi.OpAuthorize), authapi.Subject("b", authapi.OpClose), // a loop; another's request
		"gatehouse.v1.admin.x", "gatehouse.v1.audit.x", "gatehouse.v1.events.x",
		"$SRV.PING", "$SYS.REQ.SERVER.PING", "$JS.API.INFO", "$MQTT.x", "x",
	}
	_, cert := h.gate.certificate(t, "sensor-1")
	bodies := map[authapi.Op]string{ // one answered, one refused of each kind
		authapi.OpVerify:       quotedJSON(t, authapi.VerifyRequest{Credential: authapi.VerifyCredential{ClientDeviceCertificate: cert}}),
		authapi.OpToken:        "{}",
		authapi.OpAuthorize:    string(authapi.AppendAuthorizeRequest(nil, "t", "o", "r")),
		authapi.OpAuthenticate: quotedJSON(t, authapi.AuthenticateRequest{ClientID: "sensor-1", CertificatePEM: cert}),
		authapi.OpPermissions:  `{"clientDeviceAuthToken":"t"}`,
		authapi.OpClose:        `{"clientDeviceAuthToken":"t"}`,
	}
	for _, reply := range hostile {
		for op, body := range bodies {
			if err := a.PublishRequest(authapi.Subject("a", op), reply, []byte(body)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for op := range bodies { // a request of each kind with an honest reply ends the wait
		if _, err := a.Request(authapi.Subject("a", op), []byte("{}"), patience); err != nil {
			t.Fatal(err)
		}
	}
	for _, nc := range []*nats.Conn{h.daemon, a, b, ears} {
		if err := nc.FlushTimeout(patience); err != nil {
			t.Fatal(err)
		}
	}
	sent := 0
	for len(heard) > 0 {
		m := <-heard
		switch {
		case m.Reply != "": // what a sent itself, as the world hears it
			sent++
		case !strings.HasPrefix(m.Subject, "_INBOX_a."): // a's own honest replies
			t.Errorf("something was heard on %s", m.Subject)
		}
	}
	if want := (len(hostile) + 1) * len(bodies); sent != want {
		t.Errorf("%d requests passed the server, want %d", sent, want)
	}
	var dropped uint64
	for _, c := range h.desk.Counts() {
		dropped += c.Dropped
	}
	if want := uint64(len(hostile) * len(bodies)); dropped != want {
		t.Errorf("dropped %d, want %d", dropped, want)
	}
	if len(get(h.gate, &h.gate.sessions)) != 0 {
		t.Error("a dropped request opened a session")
	}
}

func TestDeskThatIsNotReadySaysSo(t *testing.T) {
	h := startHouse(t, nil)
	a := h.broker(t, "a")
	h.desk.SetReady(false)
	for _, op := range authapi.Ops() {
		if _, refusal := ask(t, a, "a", op, `{}`); refusal == nil || refusal.Code != messages.RefusedNotReady {
			t.Errorf("%s: got %v, want NotReady", op, refusal)
		}
	}
	h.desk.SetReady(true)
	if _, refusal := ask(t, a, "a", authapi.OpVerify, `{}`); refusal == nil || refusal.Code != messages.RefusedInvalidArguments {
		t.Errorf("ready again: got %v, want InvalidArguments", refusal)
	}
}

// TestFullLaneAnswersBusy also is the vector "third concurrent, queue size 1, one
// worker", where the reference says Service: Gatehouse tells overload from failure.
func TestFullLaneAnswersBusy(t *testing.T) {
	h := startHouse(t, func(c *DeskConfig) { c.SessionLimit = 2 })
	a := h.broker(t, "a")
	waiting := make(chan func(bool, error), 2)
	set(h.gate, &h.gate.onVerify, func(_ Caller, reply func(bool, error)) bool { waiting <- reply; return true })
	_, cert := makeCertificate(t)
	body := quotedJSON(t, authapi.VerifyRequest{Credential: authapi.VerifyCredential{ClientDeviceCertificate: cert}})
	replies := make(chan *nats.Msg, 2)
	sub, err := a.ChanSubscribe("_INBOX_a.held.*", replies)
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Unsubscribe()
	for i := range 2 {
		if err := a.PublishRequest(authapi.Subject("a", authapi.OpVerify), fmt.Sprintf("_INBOX_a.held.%d", i), []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	held := []func(bool, error){<-waiting, <-waiting}
	_, refusal := ask(t, a, "a", authapi.OpAuthenticate, `{}`)
	if refusal == nil || refusal.Code != messages.RefusedBusy || refusal.RetryAfter <= 0 {
		t.Fatalf("third: got %v, want Busy with a retry", refusal)
	}
	// What restricts and what only reads pass by.
	if body, refusal := ask(t, a, "a", authapi.OpClose, `{"clientDeviceAuthToken":"t"}`); refusal != nil {
		t.Errorf("close: got %s, %v", body, refusal)
	}
	if _, refusal := ask(t, a, "a", authapi.OpAuthorize, string(authapi.AppendAuthorizeRequest(nil, "t", "o", "r"))); refusal == nil || refusal.Code != messages.RefusedInvalidToken {
		t.Errorf("authorize: got %v, want InvalidClientDeviceAuthToken", refusal)
	}
	for _, reply := range held {
		reply(true, nil)
		<-replies
	}
	if _, refusal := ask(t, a, "a", authapi.OpAuthenticate, `{}`); refusal == nil || refusal.Code != messages.RefusedInvalidArguments {
		t.Errorf("after the lane emptied: got %v, want InvalidArguments", refusal)
	}
}

// TestAuthorizeBacklogAnswersBusy: what waits in memory is bounded, the excess is told
// so, nothing is lost in silence, and the first request after it is answered (reliability
// spec C5, L7).
func TestAuthorizeBacklogAnswersBusy(t *testing.T) {
	const backlog = 500
	h := startHouse(t, func(c *DeskConfig) { c.ReadLimit = 100 })
	a := h.broker(t, "a")
	entered, gate := make(chan struct{}, backlog), make(chan struct{})
	set(h.gate, &h.gate.onAuthorize, func() (Verdict, error) {
		entered <- struct{}{}
		<-gate
		return Verdict{Allowed: true}, nil
	})
	replies := make(chan *nats.Msg, backlog)
	if _, err := a.ChanSubscribe("_INBOX_a.n.*", replies); err != nil {
		t.Fatal(err)
	}
	request := authapi.AppendAuthorizeRequest(nil, "t", "o", "r")
	for i := range backlog {
		if err := a.PublishRequest(authapi.Subject("a", authapi.OpAuthorize), fmt.Sprintf("_INBOX_a.n.%d", i), request); err != nil {
			t.Fatal(err)
		}
	}
	<-entered // the first is being decided, the others pile up
	for _, nc := range []*nats.Conn{a, h.daemon} {
		if err := nc.FlushTimeout(patience); err != nil {
			t.Fatal(err)
		}
	}
	close(gate)
	busy := 0
	for range backlog {
		select {
		case m := <-replies:
			if m.Header.Get(authapi.HeaderError) == messages.RefusedBusy.String() {
				busy++
			}
		case <-time.After(patience):
			t.Fatal("not all requests were answered")
		}
	}
	if busy == 0 || busy > backlog-100 {
		t.Errorf("%d of %d were turned away, want some, but none of the last 100", busy, backlog)
	}
	if _, refusal := ask(t, a, "a", authapi.OpAuthorize, string(request)); refusal != nil {
		t.Errorf("after the backlog: got %v", refusal)
	}
}

func TestPanicsAreServiceErrors(t *testing.T) {
	h := startHouse(t, nil)
	a := h.broker(t, "a")
	_, cert := makeCertificate(t)
	set(h.gate, &h.gate.onVerify, func(Caller, func(bool, error)) bool { panic("verify") })
	set(h.gate, &h.gate.onAuthorize, func() (Verdict, error) { panic("authorize") })
	set(h.gate, &h.gate.onAuthenticate, func(_ Caller, reply func(Grant, error)) bool {
		reply(Grant{}, errors.New("disk on fire")) // no refusal: told as Service, without the text
		return true
	})
	for op, body := range map[authapi.Op]string{
		authapi.OpVerify:       quotedJSON(t, authapi.VerifyRequest{Credential: authapi.VerifyCredential{ClientDeviceCertificate: cert}}),
		authapi.OpAuthorize:    string(authapi.AppendAuthorizeRequest(nil, "t", "o", "r")),
		authapi.OpAuthenticate: quotedJSON(t, authapi.AuthenticateRequest{ClientID: "x", CertificatePEM: cert}),
	} {
		text, refusal := ask(t, a, "a", op, body)
		if refusal == nil || refusal.Code != messages.RefusedService {
			t.Errorf("%s: got %v, want Service", op, refusal)
		}
		if strings.Contains(text, "fire") || strings.Contains(text, "panic") {
			t.Errorf("%s: the wire shows inner detail: %s", op, text)
		}
	}
	for _, c := range h.desk.Counts() {
		if want := c.Op == authapi.OpVerify || c.Op == authapi.OpAuthorize; (c.Panics == 1) != want {
			t.Errorf("%s: counted %d panics", c.Op, c.Panics)
		}
	}
}

// handClock fires its timers when told to.
type handClock struct {
	SystemClock
	fire chan func()
}

func (c handClock) AfterFunc(_ time.Duration, f func()) func() bool {
	c.fire <- f
	return func() bool { return true }
}

func TestSessionOpenedTooLateIsClosedAgain(t *testing.T) {
	clock := handClock{fire: make(chan func(), 1)}
	h := startHouse(t, func(c *DeskConfig) { c.Clock = clock })
	a := h.broker(t, "a")
	_, cert := makeCertificate(t)
	late := make(chan func(Grant, error), 1)
	set(h.gate, &h.gate.onAuthenticate, func(_ Caller, reply func(Grant, error)) bool { late <- reply; return true })
	closed := make(chan struct{})
	set(h.gate, &h.gate.onClose, func(_ Caller, reply func(error)) bool { reply(nil); close(closed); return true })
	go func() { (<-clock.fire)() }()
	_, refusal := ask(t, a, "a", authapi.OpAuthenticate, quotedJSON(t, authapi.AuthenticateRequest{ClientID: "x", CertificatePEM: cert}))
	if refusal == nil || refusal.Code != messages.RefusedBusy {
		t.Fatalf("got %v, want Busy", refusal)
	}
	(<-late)(Grant{ConnectAuthorized: true, Token: messages.NewToken(), Thing: "x"}, nil)
	select {
	case <-closed:
	case <-time.After(patience):
		t.Error("the session nobody knows of stays open")
	}
}

// TestSessionWhoseReplyDidNotLeaveIsClosedAgain: its token has reached nobody.
func TestSessionWhoseReplyDidNotLeaveIsClosedAgain(t *testing.T) {
	for name, c := range map[string]struct {
		thing  messages.ThingName
		before func(*house)
	}{
		"too long to write":   {messages.ThingName(strings.Repeat("x", authapi.MaxMessageBytes)), func(*house) {}},
		"the connection gone": {"x", func(h *house) { h.daemon.Close() }},
	} {
		t.Run(name, func(t *testing.T) {
			h := startHouse(t, nil)
			a := h.broker(t, "a")
			_, cert := makeCertificate(t)
			token, closed := messages.NewToken(), make(chan struct{})
			set(h.gate, &h.gate.onAuthenticate, func(_ Caller, reply func(Grant, error)) bool {
				c.before(h)
				reply(Grant{ConnectAuthorized: true, Token: token, Thing: c.thing}, nil)
				return true
			})
			set(h.gate, &h.gate.onClose, func(_ Caller, reply func(error)) bool { reply(nil); close(closed); return true })
			body := quotedJSON(t, authapi.AuthenticateRequest{ClientID: "x", CertificatePEM: cert})
			if err := a.PublishRequest(authapi.Subject("a", authapi.OpAuthenticate), "_INBOX_a.x", []byte(body)); err != nil {
				t.Fatal(err)
			}
			select {
			case <-closed:
			case <-time.After(patience):
				t.Error("the session nobody knows of stays open")
			}
		})
	}
}

func TestClosingTheDeskAnswersWhatWasTakenIn(t *testing.T) {
	h := startHouse(t, nil)
	a := h.broker(t, "a")
	_, cert := makeCertificate(t)
	taken := make(chan func(bool, error), 1)
	set(h.gate, &h.gate.onVerify, func(_ Caller, reply func(bool, error)) bool { taken <- reply; return true })
	answer := make(chan error, 1)
	go func() {
		m, err := a.Request(authapi.Subject("a", authapi.OpVerify), []byte(quotedJSON(t, authapi.VerifyRequest{Credential: authapi.VerifyCredential{ClientDeviceCertificate: cert}})), patience)
		if err == nil && !strings.Contains(string(m.Data), "true") {
			err = fmt.Errorf("got %s", m.Data)
		}
		answer <- err
	}()
	reply := <-taken
	done := make(chan error, 1)
	go func() { done <- h.desk.Close(context.Background()) }()
	for { // until the desk has stopped taking in
		_, refusal := ask(t, a, "a", authapi.OpClose, `{"clientDeviceAuthToken":"t"}`)
		if refusal != nil && refusal.Code == messages.RefusedNotReady {
			break
		}
	}
	select {
	case err := <-done:
		t.Fatalf("closed with a request unanswered: %v", err)
	default:
	}
	reply(true, nil)
	if err := <-answer; err != nil {
		t.Errorf("the request that was taken in: %v", err)
	}
	if err := <-done; err != nil {
		t.Errorf("close: %v", err)
	}
	if _, err := a.Request(authapi.Subject("a", authapi.OpClose), nil, patience); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("after close: got %v, want no responders", err)
	}
}

func TestClosingTheDeskDoesNotWaitForEver(t *testing.T) {
	h := startHouse(t, nil)
	a := h.broker(t, "a")
	_, cert := makeCertificate(t)
	taken := make(chan struct{})
	set(h.gate, &h.gate.onVerify, func(Caller, func(bool, error)) bool { close(taken); return true })
	body := quotedJSON(t, authapi.VerifyRequest{Credential: authapi.VerifyCredential{ClientDeviceCertificate: cert}})
	if err := a.PublishRequest(authapi.Subject("a", authapi.OpVerify), "_INBOX_a.x", []byte(body)); err != nil {
		t.Fatal(err)
	}
	<-taken
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := h.desk.Close(ctx); err == nil || !strings.Contains(err.Error(), "1 requests unanswered") {
		t.Errorf("got %v, want that one request is unanswered", err)
	}
}

// TestMalformedRequests is reliability spec C6: a typed error, and nothing changes.
func TestMalformedRequests(t *testing.T) {
	h := startHouse(t, nil)
	a := h.broker(t, "a")
	for _, op := range authapi.Ops() {
		for name, body := range map[string]string{
			"empty": "", "not JSON": "hello", "array": "[]", "null": "null", "deep": strings.Repeat(`{"x":`, 100), "NUL": "\x00",
			"not UTF-8": "{\"clientDeviceAuthToken\":\"\xff\"}", "twice": `{"operation":"a","operation":"b"}`,
			"too long": `{"x":"` + strings.Repeat("y", authapi.MaxMessageBytes) + `"}`, "cut": `{"clientDeviceAuthToken":"t`,
		} {
			if text, refusal := ask(t, a, "a", op, body); refusal == nil || refusal.Code != messages.RefusedInvalidArguments {
				t.Errorf("%s, %s: got %s, %v, want InvalidArguments", op, name, text, refusal)
			}
		}
	}
	m := nats.NewMsg(authapi.Subject("a", authapi.OpClose))
	m.Header.Set(authapi.HeaderRequestID, "a b")
	m.Data = []byte(`{"clientDeviceAuthToken":"t"}`)
	reply, err := a.RequestMsg(m, patience)
	if err != nil || reply.Header.Get(authapi.HeaderError) != "InvalidArguments" || reply.Header.Get(authapi.HeaderMicroCode) != "400" {
		t.Errorf("bad request id: got %v, %v", reply, err)
	}
	if len(get(h.gate, &h.gate.closed)) != 0 {
		t.Error("a malformed request reached the gate")
	}
}

func TestRequestsAreNamedByTheBrokerIfItLikes(t *testing.T) {
	h := startHouse(t, nil)
	a := h.broker(t, "a")
	named := make(chan Caller, 1)
	set(h.gate, &h.gate.onClose, func(c Caller, reply func(error)) bool { named <- c; reply(nil); return true })
	m := nats.NewMsg(authapi.Subject("a", authapi.OpClose))
	m.Header.Set(authapi.HeaderRequestID, "mine-7")
	m.Data = []byte(`{"clientDeviceAuthToken":"t"}`)
	if _, err := a.RequestMsg(m, patience); err != nil {
		t.Fatal(err)
	}
	if got := <-named; got != (Caller{Broker: "a", Request: "mine-7"}) {
		t.Errorf("got %+v", got)
	}
}

// TestNothingIsGrantedWithoutConnect: whatever the gate returns beside a refused
// connect stays here.
func TestNothingIsGrantedWithoutConnect(t *testing.T) {
	h := startHouse(t, nil)
	a := h.broker(t, "a")
	_, cert := makeCertificate(t)
	set(h.gate, &h.gate.onAuthenticate, func(_ Caller, reply func(Grant, error)) bool {
		reply(Grant{Token: "gh1_leak", Thing: "x", DecisionID: "d"}, nil)
		return true
	})
	body, refusal := ask(t, a, "a", authapi.OpAuthenticate, quotedJSON(t, authapi.AuthenticateRequest{ClientID: "x", CertificatePEM: cert}))
	grant, err := authapi.ParseGrantReply([]byte(body))
	if refusal != nil || err != nil || grant.IsConnectAuthorized || grant.ClientDeviceAuthToken != "" || len(grant.Permissions) != 0 {
		t.Errorf("got %s, %v, %v", body, refusal, err)
	}
	set(h.gate, &h.gate.onAuthenticate, func(_ Caller, reply func(Grant, error)) bool {
		reply(Grant{ConnectAuthorized: true, Thing: "x"}, nil)
		return true
	})
	if _, refusal := ask(t, a, "a", authapi.OpAuthenticate, quotedJSON(t, authapi.AuthenticateRequest{ClientID: "x", CertificatePEM: cert})); refusal == nil || refusal.Code != messages.RefusedService {
		t.Errorf("a grant without a token: got %v, want Service", refusal)
	}
}
