package awsemu

import (
	"bytes"
	"compress/gzip"
	"context"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-edge/gatehouse/cloudsync"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/fault"
)

// Fault is fault.Fault: one way of misbehaving.
type Fault = fault.Fault

// answer is what goes back to a caller.
type answer struct {
	status int
	header map[string]string
	body   []byte
}

// hold waits before an answer, while the caller does; a negative d has no end.
func (e *Emulator) hold(ctx context.Context, d time.Duration) {
	if d != 0 {
		e.cfg.Wait(ctx, d)
	}
	if ctx.Err() != nil {
		panic(http.ErrAbortHandler)
	}
}

// injected is the answer that a fault gives in place of the truth.
func injected(f *Fault, write protocol, id string) *answer {
	a := &answer{status: f.Status, header: map[string]string{}, body: []byte(f.Body)}
	if a.status == 0 {
		a.status = http.StatusOK
	}
	if f.Body == "" {
		a = write(id, nil, &apiError{status: a.status, name: f.ErrorType, message: "injected fault"})
		delete(a.header, "X-Amzn-ErrorType")
	}
	if f.ContentType != "" {
		a.header["Content-Type"] = f.ContentType
	}
	if f.RetryAfter > 0 {
		a.header["Retry-After"] = strconv.Itoa(int(f.RetryAfter.Seconds()))
	}
	if f.ErrorType != "" {
		a.header["X-Amzn-ErrorType"] = f.ErrorType
	}
	return a
}

// signIn is the page of a captive portal.
const signIn = `<!DOCTYPE html><html><head><title>Welcome</title></head><body><form action="/login">Sign in to use this network</form></body></html>`

// mangle spoils a true answer.
func (a *answer) mangle(how fault.Mangle) {
	switch how {
	case fault.MangleGarbage:
		a.body = []byte("{\"message\x00:\x1f\x8b not JSON ]")
	case fault.MangleHTML:
		a.status, a.body = http.StatusOK, []byte(signIn)
		a.header["Content-Type"] = "text/html; charset=utf-8"
		delete(a.header, "X-Amzn-ErrorType")
	case fault.MangleGzip:
		a.body = compress(a.body)
		a.header["Content-Encoding"] = "gzip"
	case fault.MangleNotGzip:
		a.header["Content-Encoding"] = "gzip"
	case fault.MangleGzipBomb:
		a.body = append(bytes.Clone(bomb()), compress(a.body)...) // members of one stream
		a.header["Content-Encoding"] = "gzip"
	case fault.MangleOversized:
		a.body = append(bytes.Repeat([]byte(" "), 2<<20), a.body...)
	}
}

func compress(text []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(text) // into memory: does not fail
	_ = w.Close()
	return b.Bytes()
}

// bomb is 64 MiB of blanks, which stand before any JSON value, compressed.
var bomb = sync.OnceValue(func() []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	blanks := bytes.Repeat([]byte(" "), 1<<20)
	for range 64 {
		_, _ = w.Write(blanks)
	}
	_ = w.Close()
	return b.Bytes()
})

// write sends the answer, or the first half of it and no more.
func (a *answer) write(w http.ResponseWriter, half bool) {
	for name, value := range a.header {
		w.Header().Set(name, value)
	}
	if !half {
		w.WriteHeader(a.status)
		_, _ = w.Write(a.body) // the caller has hung up, if it fails
		return
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(a.body)))
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body[:len(a.body)/2])
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// servePortal answers everything as a captive portal does.
func servePortal(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = strings.NewReader(signIn).WriteTo(w)
}

// turn spoils one page of a listing: page p with items, behind which there may be more.
func turn[T any](e *Emulator, p page, items []T, more bool, name func(T) string) ([]T, string) {
	next := ""
	if more {
		next = e.pageToken(p.listing, name(items[len(items)-1]))
	}
	switch p.fault {
	case fault.PageEnd:
		return items, ""
	case fault.PageNothing:
		return items[:0], ""
	case fault.PageEmpty:
		return items[:0], e.pageToken(p.listing, p.after)
	case fault.PageMissing:
		return items[:0], next
	case fault.PageFewer:
		return items[:len(items)/2], next
	case fault.PageDuplicate:
		var twice []T
		for _, item := range items {
			twice = append(twice, item, item)
		}
		return twice, next
	case fault.PageRepeat:
		if p.token == "" { // the first page was asked for without one
			return items, e.pageToken(p.listing, "")
		}
		return items, p.token
	case fault.PageLoop:
		return items, e.pageToken(p.listing, "")
	}
	return items, next
}

// faults is a script in force.
type faults struct {
	*fault.Player
	connections map[fault.TLS]greeting
}

// SetFault makes the cloud misbehave from the next request on; the zero Fault ends it.
func (e *Emulator) SetFault(f Fault) error {
	if !f.Set() {
		return e.SetFaults(fault.Script{})
	}
	return e.SetFaults(fault.Script{Faults: []Fault{f}})
}

// SetFaults puts a script in force from the next request on, in place of the former one
// and with counts from zero; one without faults ends it. Faults of connections close those
// that are open.
func (e *Emulator) SetFaults(s fault.Script) error {
	if err := s.Check(); err != nil {
		return err
	}
	next := &faults{Player: fault.NewPlayer(s), connections: map[fault.TLS]greeting{}}
	for _, f := range s.Faults {
		if f.TLS == "" {
			continue
		}
		g, err := e.greetingOf(f.TLS)
		if err != nil {
			return err
		}
		next.connections[f.TLS] = g
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	before := e.faults.Swap(next)
	if next.StrikesConnections() || before != nil && before.StrikesConnections() {
		for _, p := range e.planes() {
			p.renew()
		}
		e.mqtt.drop("")
	}
	return nil
}

// Faults tells of the faults in force and what they have done.
func (e *Emulator) Faults() []fault.State {
	if f := e.faults.Load(); f != nil {
		return f.States()
	}
	return nil
}

// effect is what happens to a request of plane for op, which may be none.
func (e *Emulator) effect(plane, op cloudsync.Operation) fault.Effect {
	f := e.faults.Load()
	if f == nil {
		return fault.Effect{}
	}
	if op == "" {
		op = fault.Probe
	}
	return f.Request(plane, op)
}
