package actors

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// BenchmarkAuthenticate is a known device that connects while the cloud is away: verify,
// the connect decision, a session, durable in memory. 64 are under way at once.
func BenchmarkAuthenticate(b *testing.B) {
	r := newRig(b)
	r.views.SetTrustDurationMs((24 * time.Hour).Milliseconds())
	r.policy()
	const devices = 256
	certs := make([]identity, devices)
	things := make([]messages.ThingName, devices)
	for i := range certs {
		things[i] = messages.ThingName(fmt.Sprint("bench-", i))
		certs[i], _ = r.join(things[i])
	}
	r.sys.SetNetwork(false)
	go func() { // nobody listens to the pushes
		for range r.closed {
		}
	}()
	b.Cleanup(func() { close(r.closed) })
	slots := make(chan struct{}, 64)
	var wg sync.WaitGroup
	ctx := context.Background()
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		slots <- struct{}{}
		wg.Add(1)
		i++
		r.access.Authenticate(ctx, messages.Cause{Request: "r1", Broker: broker}, string(things[i%devices]), certs[i%devices].der,
			func(_ messages.SessionReady, ok bool, err error) {
				if !ok {
					b.Errorf("refused: %v", err)
				}
				<-slots
				wg.Done()
			})
	}
	wg.Wait()
}

// BenchmarkAuthorize is the same through System's clock and trust, as the desk asks.
func BenchmarkAuthorize(b *testing.B) {
	r := newRig(b)
	r.policy()
	_, token := r.join(pump)
	tok, op, res := []byte(string(token)), []byte("mqtt:publish"), []byte("mqtt:topic:a")
	b.ReportAllocs()
	for b.Loop() {
		trust := r.sys.Trust()
		if !r.views.Authorize(broker, tok, op, res, trust, r.trust.NowMs()).Allowed {
			b.Fatal("denied")
		}
	}
}
