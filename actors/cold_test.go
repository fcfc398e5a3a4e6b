package actors

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// TestWhoWaitsTooLongForTheLogIsToldBusy: devices that wait behind others to be read from
// the log are sent away and not read; what restricts is read at once, also then.
func TestWhoWaitsTooLongForTheLogIsToldBusy(t *testing.T) {
	r := newRig(t, func(c *Config) { c.RecoveriesMax = 1 })
	reading, goOn := make(chan messages.StreamID, 16), make(chan struct{})
	r.log.OnRead(func(s messages.StreamID) {
		if _, ok := s.Certificate(); ok {
			reading <- s
			<-goOn
		}
	})
	var certs []identity
	for i := range 3 {
		c := certificate(t, fmt.Sprint("pump-", i))
		r.cloud.Register(c.id, messages.ThingName(fmt.Sprint("pump-", i)))
		certs = append(certs, c)
	}
	first := r.put(verifyOf(certs[0]))
	<-reading
	late := []<-chan messages.Reply{r.put(verifyOf(certs[1])), r.put(verifyOf(certs[2]))}
	if got := code(r.do(messages.QuarantineDevice{Thing: pump})); got != "done" {
		t.Errorf("an order of an operator meanwhile: %s", got)
	}
	r.clock.Advance(coldPatience + time.Millisecond)
	close(goOn)
	if got := code(r.reply(first)); got != "valid" {
		t.Errorf("who was being read: %s", got)
	}
	for _, w := range late {
		refusal, ok := r.reply(w).(*messages.Refusal)
		if !ok || refusal.Code != messages.RefusedBusy || refusal.RetryAfter <= 0 || !strings.Contains(refusal.Reason, "log") {
			t.Errorf("who waited: %+v, want Busy", refusal)
		}
	}
	if n := len(reading); n != 0 {
		t.Errorf("%d were read for nobody", n)
	}
	if got := code(r.do(verifyOf(certs[1]))); got != "valid" {
		t.Errorf("who comes again: %s", got)
	}
}
