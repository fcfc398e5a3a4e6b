package concurrency

import (
	"context"
	"encoding/base64"
	"errors"
	"math"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/nats-io/nats.go"

	"github.com/gatehouse-edge/gatehouse/cmd/internal/daemon"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

// Shape of one history.
const (
	historyDevices = 4
	historyWorkers = 6 // of each of two brokers
	requestTime    = 5 * time.Second
)

// history is what several clients and an operator heard, while they did things to the same
// few devices at the same time.
type history struct {
	s       *site
	devices [historyDevices]device
	began   time.Time

	mu     sync.Mutex
	ops    []porcupine.Operation // guarded by mu, as all below
	tokens [historyDevices][]session
	left   int // operations still to be done

	lie func(ask func() outcome, token string) outcome // nil: nobody lies
}

// session is one that a device has, or had.
type session struct {
	broker messages.BrokerID
	token  string
	number int
}

// TestHistoriesAreLinearizable: however requests of several brokers, an operator's orders and
// the cloud's word race each other, what everybody hears is what one after the other would
// have been told; no allow follows an acknowledged revocation.
func TestHistoriesAreLinearizable(t *testing.T) {
	s := open(t, []messages.BrokerID{"east", "west"}, nil)
	histories, length := sized(share(6), 100), 2000
	asked, unsure := 0, 0
	began := time.Now()
	for n := range histories {
		h := record(t, s, length, uint64(n), nil)
		for _, o := range h.ops {
			asked++
			if o.Output.(answer).outcome == unknown {
				unsure++
			}
		}
		if verdict, info := h.check(); verdict != porcupine.Ok {
			path := filepath.Join(t.ArtifactDir(), "history.html")
			t.Fatalf("history %d is %s; drawn in %s (%v)\n%s", n, verdict, path, porcupine.VisualizePath(model, info, path), explain(h.ops))
		}
	}
	t.Logf("%d histories, %d operations in %v; %d of unknown outcome; the cloud was asked %d times",
		histories, asked, time.Since(began).Round(time.Millisecond), unsure, s.cloud.asked.Load())
	if unsure*100 > asked {
		t.Errorf("%d of %d operations have an unknown outcome, at most 1 %% may", unsure, asked)
	}
}

// TestLiesAreFound: answers from before, even from a moment before, do not pass.
func TestLiesAreFound(t *testing.T) {
	s := open(t, []messages.BrokerID{"east", "west"}, nil)
	for name, old := range map[string]time.Duration{"20 ms": 20 * time.Millisecond, "200 ms": 200 * time.Millisecond} {
		var mu sync.Mutex
		type said struct {
			what outcome
			at   time.Time
		}
		last := map[string]said{}
		lie := func(ask func() outcome, token string) outcome {
			mu.Lock()
			before, known := last[token]
			mu.Unlock()
			if known && time.Since(before.at) < old {
				return before.what
			}
			now := said{ask(), time.Now()}
			mu.Lock()
			last[token] = now
			mu.Unlock()
			return now.what
		}
		found := 0
		for n := range 5 {
			if verdict, _ := record(t, s, 1000, uint64(n), lie).check(); verdict == porcupine.Illegal {
				found++
			}
		}
		t.Logf("a gate that answers from up to %s before: found in %d of 5 histories", name, found)
		if found == 0 {
			t.Errorf("a gate that answers from up to %s before is not found", name)
		}
	}
}

// check holds the history against the model.
func (h *history) check() (porcupine.CheckResult, porcupine.LinearizationInfo) {
	return porcupine.CheckOperationsVerbose(model, h.ops, time.Minute)
}

// record lets workers of two brokers and an operator act until length operations are done.
func record(t *testing.T, s *site, length int, seed uint64, lie func(func() outcome, string) outcome) *history {
	h := &history{s: s, began: time.Now(), left: length, lie: lie}
	for i := range h.devices {
		h.devices[i] = newDevice(t)
		h.verify(h.devices[i])
	}
	var wg sync.WaitGroup
	var names atomic.Int64
	for _, broker := range []messages.BrokerID{"east", "west"} {
		nc := s.dial(broker)
		for w := range historyWorkers {
			wg.Go(func() { h.work(&worker{h, broker, nc, int(names.Add(1))}, rand.New(rand.NewPCG(seed, uint64(w)))) })
		}
	}
	chance := rand.New(rand.NewPCG(seed, 1000))
	wg.Go(func() {
		for h.take() {
			h.operate(chance)
			time.Sleep(time.Duration(chance.IntN(8)) * time.Millisecond) // so that something happens in between
		}
	})
	wg.Wait()
	return h
}

// verify has the daemon know the device's certificate, which is what "token" goes by.
func (h *history) verify(d device) {
	w := &worker{h: h, name: "east", nc: h.s.dial("east")}
	defer w.nc.Close()
	q, err := authapi.Encode(authapi.VerifyRequest{Credential: authapi.VerifyCredential{ClientDeviceCertificate: base64.StdEncoding.EncodeToString(d.der)}})
	must(h.s.t, err)
	if body, got := w.ask(authapi.OpVerify, q); got != yes || string(body) != `{"isValidClientDevice":true}` {
		h.s.t.Fatalf("verify: %s %s", got, body)
	}
}

func (h *history) take() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.left--
	return h.left >= 0
}

// do records one operation.
func (h *history) do(client int, c call, f func() answer) {
	from := time.Since(h.began)
	a := f()
	to := int64(time.Since(h.began))
	if a.outcome == unknown {
		to = math.MaxInt64 // it may take effect at any later time
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: c, Call: int64(from), Output: a, Return: to})
}

// operate does one thing that an operator, or who administers the cloud, does.
func (h *history) operate(chance *rand.Rand) {
	i := chance.IntN(historyDevices)
	d := h.devices[i]
	order := func(name string) answer {
		ctx, cancel := context.WithTimeout(context.Background(), requestTime)
		defer cancel()
		if err := h.s.operator(ctx, name, d.thing); err != nil {
			return answer{outcome: unknown}
		}
		return answer{outcome: yes}
	}
	tell := func(no bool) answer {
		h.s.cloud.set(d.id, no)
		return answer{outcome: yes}
	}
	const who = 0
	switch n := chance.IntN(10); {
	case n < 3:
		h.do(who, call{op: quarant, device: i}, func() answer { return order(daemon.OpQuarantine) })
	case n < 7:
		h.do(who, call{op: release, device: i}, func() answer { return order(daemon.OpRelease) })
	case i%2 == 0: // the cloud changes its mind about half of them
	case n < 8:
		h.do(who, call{op: revoke, device: i}, func() answer { return tell(true) })
	default:
		h.do(who, call{op: regrant, device: i}, func() answer { return tell(false) })
	}
}

// worker is one worker of a broker.
type worker struct {
	h      *history
	name   messages.BrokerID
	nc     *nats.Conn
	client int
}

// work does what brokers do, with the sessions of all workers of its broker.
func (h *history) work(b *worker, chance *rand.Rand) {
	var own [historyDevices]*session // each worker has one a device: a device may have 16
	for h.take() {
		i := chance.IntN(historyDevices)
		switch n := chance.IntN(100); {
		case own[i] == nil || n < 5:
			if own[i] != nil {
				b.close(i, *own[i])
			}
			own[i] = b.open(i, n%2 == 0)
		case n < 12:
			b.close(i, *own[i])
			own[i] = nil
		default:
			b.authorize(i, chance.IntN(1000), chance.IntN(8) > 0)
		}
	}
}

// ask puts one request.
func (b *worker) ask(op authapi.Op, body []byte) ([]byte, outcome) {
	m, err := b.nc.Request(authapi.Subject(b.name, op), body, requestTime)
	if err != nil {
		return nil, unknown
	}
	refusal := authapi.ReadError(m.Header.Get(authapi.HeaderError), m.Header.Get(authapi.HeaderMicroCode), m.Data)
	switch {
	case refusal == nil:
		return m.Data, yes
	case refusal.Code == messages.RefusedBusy && op == authapi.OpAuthorize:
		return nil, busy
	case refusal.Code == messages.RefusedBusy: // it may have been done before it was late
		return nil, unknown
	case refusal.Code == messages.RefusedInvalidToken, refusal.Code == messages.RefusedInvalidCredential:
		return nil, no
	default:
		b.h.s.t.Errorf("%s: %v", op, refusal)
		return nil, unknown
	}
}

// open opens a session with authenticate or, as the reference does, with token.
func (b *worker) open(i int, byToken bool) (opened *session) {
	d := b.h.devices[i]
	certificate := base64.StdEncoding.EncodeToString(d.der)
	b.h.do(b.client, call{op: opening, device: i, byToken: byToken}, func() answer {
		var text string
		var got outcome
		var body []byte
		var err error
		if byToken {
			q, e := authapi.Encode(authapi.TokenRequest{Credential: authapi.TokenCredential{MQTT: &authapi.MQTTCredential{ClientID: string(d.thing), CertificatePEM: certificate}}})
			err = e
			if body, got = b.ask(authapi.OpToken, q); got == yes {
				r, e := authapi.ParseTokenReply(body)
				text, err = r.ClientDeviceAuthToken, errors.Join(err, e)
			}
		} else {
			q, e := authapi.Encode(authapi.AuthenticateRequest{ClientID: string(d.thing), CertificatePEM: certificate})
			err = e
			if body, got = b.ask(authapi.OpAuthenticate, q); got == yes {
				r, e := authapi.ParseGrantReply(body)
				text, err = r.ClientDeviceAuthToken, errors.Join(err, e)
				if !r.IsConnectAuthorized {
					b.h.s.t.Errorf("the policy does not let %s connect", d.thing)
				}
			}
		}
		if err != nil {
			b.h.s.t.Error(err)
		}
		if got != yes {
			return answer{outcome: got}
		}
		b.h.mu.Lock()
		defer b.h.mu.Unlock()
		opened = &session{b.name, text, len(b.h.tokens[i])}
		b.h.tokens[i] = append(b.h.tokens[i], *opened)
		return answer{outcome: yes, token: opened.number}
	})
	return opened
}

func (b *worker) close(i int, s session) {
	b.h.do(b.client, call{op: closing, device: i, token: s.number}, func() answer {
		q, err := authapi.Encode(authapi.TokenOnlyRequest{ClientDeviceAuthToken: s.token})
		if err != nil {
			b.h.s.t.Error(err)
		}
		_, got := b.ask(authapi.OpClose, q)
		if got == no {
			got = yes // there was none: it is closed
		}
		return answer{outcome: got}
	})
}

// authorize asks with one of the broker's last sessions of the device, most of which are
// over: whose answer is yes is what matters.
func (b *worker) authorize(i, pick int, mine bool) {
	b.h.mu.Lock()
	var s *session
	const last = 12
	list := b.h.tokens[i]
	list = list[max(0, len(list)-last):]
	for n := range list {
		if one := list[(pick+n)%len(list)]; one.broker == b.name {
			s = &one
			break
		}
	}
	b.h.mu.Unlock()
	if s == nil {
		return
	}
	resource := "mqtt:topic:units/" + string(b.h.devices[i].thing) + "/state"
	if !mine {
		resource = "mqtt:topic:units/another/state"
	}
	b.h.do(b.client, call{op: authorize, device: i, token: s.number, mine: mine}, func() answer {
		ask := func() outcome {
			body, got := b.ask(authapi.OpAuthorize, authapi.AppendAuthorizeRequest(nil, s.token, "mqtt:publish", resource))
			if got == yes {
				r, err := authapi.ParseAuthorizeReply(body)
				if err != nil {
					b.h.s.t.Error(err)
				}
				if !r.IsAuthorized {
					return no
				}
			}
			return got
		}
		if b.h.lie != nil && mine {
			return answer{outcome: b.h.lie(ask, s.token)}
		}
		return answer{outcome: ask()}
	})
}
