package awsemu

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/gatehouse-edge/gatehouse/cloudsync"
)

// Fault is a way in which the emulated cloud misbehaves until it is told otherwise
// (cloud spec 1.7.5). The zero Fault is none.
type Fault struct {
	// Operation is what it strikes; empty is everything, probes included.
	Operation cloudsync.Operation `json:"operation,omitempty"`
	// Latency is waited before anything is answered.
	Latency time.Duration `json:"latencyNs,omitempty"`
	// Status and ErrorType are answered instead of the truth; zero leaves the truth.
	// Without ErrorType the answer names no error.
	Status    int    `json:"status,omitempty"`
	ErrorType string `json:"errorType,omitempty"`
	// RetryAfter, in whole seconds, is sent with Status if positive.
	RetryAfter time.Duration `json:"retryAfterNs,omitempty"`
	// Header, Body and ContentType replace the answer's, with Status or 200. A body
	// without ContentType is application/json.
	Header      map[string]string `json:"header,omitempty"`
	Body        string            `json:"body,omitempty"`
	ContentType string            `json:"contentType,omitempty"`
	// Drop closes the connection without an answer.
	Drop bool `json:"drop,omitempty"`
	// Truncate announces the whole answer and breaks off in the middle of it.
	Truncate bool `json:"truncate,omitempty"`
}

const faultBodyMax = 8 << 20

func (f *Fault) check() error {
	switch {
	case f.Status != 0 && (f.Status < 200 || f.Status > 599):
		return fmt.Errorf("fault: status %d, want 200 to 599", f.Status)
	case f.Latency < 0 || f.Latency > time.Hour:
		return fmt.Errorf("fault: latency %v, want 0 to 1 h", f.Latency)
	case f.RetryAfter < 0:
		return fmt.Errorf("fault: Retry-After %v is negative", f.RetryAfter)
	case len(f.Body) > faultBodyMax:
		return fmt.Errorf("fault: body of %d bytes, at most %d", len(f.Body), faultBodyMax)
	case f.ErrorType != "" && f.Status == 0:
		return errors.New("fault: an error type needs a status")
	case f.Operation != "":
		if _, ok := cloudsync.DefaultRoutes()[f.Operation]; !ok {
			return fmt.Errorf("fault: no operation %.60q", f.Operation)
		}
	}
	return nil
}

// strikes says whether the fault concerns op.
func (f *Fault) strikes(op cloudsync.Operation) bool {
	return f != nil && (f.Operation == "" || f.Operation == op)
}

// apply carries the fault out. It returns true if the request is answered by it.
func (f *Fault) apply(w http.ResponseWriter, r *http.Request) bool {
	if f.Latency > 0 {
		select {
		case <-after(f.Latency):
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		}
	}
	for name, value := range f.Header {
		w.Header().Set(name, value)
	}
	switch {
	case f.Drop:
		panic(http.ErrAbortHandler)
	case f.Truncate:
		body := `{"clientDeviceCertificateId":"`
		w.Header().Set("Content-Length", strconv.Itoa(2*len(body)))
		_, _ = w.Write([]byte(body))
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	case f.Status == 0 && f.Body == "":
		return false
	}
	status := f.Status
	if status == 0 {
		status = http.StatusOK
	}
	if f.ContentType != "" {
		w.Header().Set("Content-Type", f.ContentType)
	}
	if f.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(f.RetryAfter.Seconds())))
	}
	if f.ErrorType != "" {
		w.Header().Set("X-Amzn-ErrorType", f.ErrorType)
	}
	body := f.Body
	if body == "" {
		body = `{"message":"injected fault"}`
	}
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body))
	return true
}

// set says whether f is more than the zero Fault.
func (f *Fault) set() bool {
	return f.Operation != "" || f.Latency != 0 || f.Status != 0 || f.Body != "" || len(f.Header) > 0 ||
		f.ContentType != "" || f.Drop || f.Truncate
}
