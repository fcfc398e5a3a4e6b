// Package fault says how the emulated cloud misbehaves. A Script is a list of faults; each
// names the requests that it strikes and what happens to them. The script is a document in
// JSON or YAML, the same in a file of its own and inside a scenario:
//
//	seed: 7
//	faults:
//	  - {operation: control-plane, latency: 200ms}
//	  - {operation: ListClientDevicesAssociatedWithCoreDevice, skip: 6, count: 1, page: missing}
//	  - {operation: data-plane, probability: 0.1, status: 429, errorType: ThrottlingException, retryAfter: 2s}
//
// Faults are tried in their order for every request. Those that only delay it, or change
// its headers and date, add up; the first one with an outcome decides, and the rest are
// not tried. A Player keeps the counts. Nothing here does any I/O or knows a clock.
package fault

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-edge/gatehouse/cloudsync"
)

// What Fault.Operation may name beside one operation.
const (
	// Probe is a request for no operation, such as those that ask whether the cloud is there.
	Probe cloudsync.Operation = "probe"
	// DataPlane and ControlPlane are every request at one of two addresses.
	DataPlane    cloudsync.Operation = "data-plane"
	ControlPlane cloudsync.Operation = "control-plane"
	// MQTT is everything at the MQTT endpoint but for the connections that come to the data
	// plane's address.
	MQTT cloudsync.Operation = "mqtt"
	// Credentials is every request at the credentials provider's address.
	Credentials cloudsync.Operation = "credentials"
)

// AssumeRole is what is asked of the credentials provider.
const AssumeRole cloudsync.Operation = "AssumeRoleWithCertificate"

// What clients ask of the MQTT endpoint, and, with Receive, what it sends them. A status
// is that of a rejected request for a shadow, stands for a refusal of Connect and
// Subscribe, and keeps a Publish from being acknowledged; a message that is to be received
// is lost with any outcome but those that spoil it.
const (
	Connect      cloudsync.Operation = "Connect"
	Subscribe    cloudsync.Operation = "Subscribe"
	Publish      cloudsync.Operation = "Publish"
	Receive      cloudsync.Operation = "Receive"
	GetShadow    cloudsync.Operation = "GetThingShadow"
	UpdateShadow cloudsync.Operation = "UpdateThingShadow"
	DeleteShadow cloudsync.Operation = "DeleteThingShadow"
)

// isListing says whether op answers in pages.
func isListing(op cloudsync.Operation) bool {
	return strings.HasPrefix(strings.TrimPrefix(string(op), "iam:"), "List")
}

// Page is what happens to one page of a listing. Only PageRepeat and PageLoop can be
// noticed by who asks, and PageEmpty loses nothing.
type Page string

// The faults of pages.
const (
	PageEnd       Page = "end"       // the listing ends here, as if complete
	PageNothing   Page = "nothing"   // nothing is listed, and the listing ends
	PageEmpty     Page = "empty"     // nothing is listed, and the token leads to what would have been
	PageMissing   Page = "missing"   // this page's items are left out
	PageFewer     Page = "fewer"     // the second half of this page's items is left out
	PageDuplicate Page = "duplicate" // every item is listed twice
	PageRepeat    Page = "repeat"    // the token that was asked with comes again
	PageLoop      Page = "loop"      // the token leads back to the first page
)

// Mangle is what happens to an answer's body.
type Mangle string

// The ways to mangle. What is mangled is the true answer.
const (
	MangleGarbage   Mangle = "garbage"   // JSON by its content type, and none
	MangleHTML      Mangle = "html"      // 200, and a page that asks to sign in
	MangleGzip      Mangle = "gzip"      // compressed, whether or not that was asked for
	MangleNotGzip   Mangle = "not-gzip"  // says that it is compressed, and is not
	MangleGzipBomb  Mangle = "gzip-bomb" // 64 MiB of blanks before the true answer, in a few KiB
	MangleOversized Mangle = "oversized" // 2 MiB of blanks before the true answer
)

// TLS is what happens to a connection before there is a request.
type TLS string

// The faults of connections.
const (
	TLSExpired          TLS = "expired"           // the server's certificate has expired
	TLSWrongHost        TLS = "wrong-host"        // it names another host
	TLSUnknownAuthority TLS = "unknown-authority" // nobody vouches for it
	TLSOldVersion       TLS = "old-version"       // TLS 1.1 is the newest that is spoken
	TLSCaptivePortal    TLS = "captive-portal"    // somebody else answers, with a page on every path
	TLSHang             TLS = "hang"              // accepted, and nothing more
)

var (
	pages   = []Page{PageEnd, PageNothing, PageEmpty, PageMissing, PageFewer, PageDuplicate, PageRepeat, PageLoop}
	mangles = []Mangle{MangleGarbage, MangleHTML, MangleGzip, MangleNotGzip, MangleGzipBomb, MangleOversized}
	tlses   = []TLS{TLSExpired, TLSWrongHost, TLSUnknownAuthority, TLSOldVersion, TLSCaptivePortal, TLSHang}
)

// Fault is one way of misbehaving (cloud spec 1.7.5, reliability spec D1c to D7c). The
// zero Fault is none.
type Fault struct {
	// Operation is what it strikes: an operation's name, Probe, DataPlane or ControlPlane.
	// Empty is everything.
	Operation cloudsync.Operation
	// Of the requests that it could strike it lets Skip pass, strikes each Every-th from
	// then on (0 is each one), with Probability (0 is always), and Count in all (0 is
	// without end). With TLS connections are counted in place of requests.
	Skip, Every, Count int
	Probability        float64

	// Latency is waited before anything is answered.
	Latency time.Duration
	// DateSkew is added to the answer's Date.
	DateSkew time.Duration
	// Header is set in the answer.
	Header map[string]string

	// The outcome, at most one; with none the answer is true.

	// Status and ErrorType are answered in place of the truth. Without ErrorType the
	// answer names no error. RetryAfter, in whole seconds, goes with Status. Body is the
	// answer's, with Status or 200; ContentType goes with either, and without it they
	// are application/json.
	Status      int
	ErrorType   string
	RetryAfter  time.Duration
	Body        string
	ContentType string
	// Drop closes the connection without an answer.
	Drop bool
	// Blackhole never answers, until the caller gives up.
	Blackhole bool
	// Truncate announces the whole answer and breaks off in the middle of it.
	Truncate bool
	// Mangle spoils the true answer's body; Page spoils a page of a listing.
	Mangle Mangle
	Page   Page
	// TLS strikes connections. Those that are open are closed when it begins.
	TLS TLS
}

// The bounds of a script.
const (
	FaultsMax      = 64
	bodyBytesMax   = 8 << 20
	headersMax     = 32
	headerBytesMax = 1024
	countMax       = 1 << 30
	latencyMax     = time.Hour
	dateSkewMax    = 100 * 365 * 24 * time.Hour
	retryAfterMax  = 24 * time.Hour
	nameBytesMax   = 100
)

// Script is a list of faults, and the seed by which chance decides.
type Script struct {
	Seed   uint64  `json:"seed,omitempty"`
	Faults []Fault `json:"faults"`
}

// Check says what is wrong with a script that was not made by Parse.
func (s Script) Check() error {
	if len(s.Faults) > FaultsMax {
		return fmt.Errorf("fault: %d faults, at most %d", len(s.Faults), FaultsMax)
	}
	for i := range s.Faults {
		if p := s.Faults[i].problem(); p != nil {
			return fmt.Errorf("fault %d: %s: %s", i, p.field, p.text)
		}
		if !s.Faults[i].acts() {
			return fmt.Errorf("fault %d does nothing: give it an effect, or remove it", i)
		}
	}
	return nil
}

// Set says whether f is more than the zero Fault.
func (f *Fault) Set() bool { return f.acts() || f.filtered() || f.RetryAfter != 0 }

// acts says whether f does something to what it strikes.
func (f *Fault) acts() bool {
	return len(f.Header) > 0 || f.outcome() != "" || f.Latency != 0 || f.DateSkew != 0
}

func (f *Fault) filtered() bool {
	return f.Operation != "" || f.Skip != 0 || f.Every != 0 || f.Count != 0 || f.Probability != 0
}

// answers says whether f replaces the true answer.
func (f *Fault) answers() bool {
	return f.Status != 0 || f.Body != "" || f.ErrorType != "" || f.ContentType != ""
}

// outcome names the field that decides the answer, empty if none does.
func (f *Fault) outcome() string {
	if all := f.outcomes(); len(all) > 0 {
		return all[0]
	}
	return ""
}

func (f *Fault) outcomes() []string {
	var found []string
	for _, o := range []struct {
		name string
		set  bool
	}{
		{"status", f.answers()}, {"drop", f.Drop}, {"blackhole", f.Blackhole}, {"truncate", f.Truncate},
		{"mangle", f.Mangle != ""}, {"page", f.Page != ""}, {"tls", f.TLS != ""},
	} {
		if o.set {
			found = append(found, o.name)
		}
	}
	return found
}

// problem is what is wrong with one field.
type problem struct{ field, text string }

func (f *Fault) problem() *problem {
	for _, check := range []func() *problem{f.filterProblem, f.answerProblem, f.headerProblem, f.wordProblem, f.pairProblem} {
		if p := check(); p != nil {
			return p
		}
	}
	return nil
}

func (f *Fault) filterProblem() *problem {
	for _, n := range []struct {
		field string
		value int
	}{{"skip", f.Skip}, {"every", f.Every}, {"count", f.Count}} {
		if n.value < 0 || n.value > countMax {
			return &problem{n.field, fmt.Sprintf("%d, want 0 to %d", n.value, countMax)}
		}
	}
	if !(f.Probability >= 0 && f.Probability <= 1) {
		return &problem{"probability", fmt.Sprintf("%v, want 0 to 1", f.Probability)}
	}
	known := []cloudsync.Operation{Probe, DataPlane, ControlPlane, MQTT, Credentials}
	for _, op := range slices.Concat(operations[DataPlane], operations[ControlPlane], operations[MQTT], operations[Credentials]) {
		if !slices.Contains(known, op) { // some are at both
			known = append(known, op)
		}
	}
	if f.Operation != "" && !slices.Contains(known, f.Operation) {
		return &problem{"operation", fmt.Sprintf("there is no operation %.60q; want one of %v", f.Operation, known)}
	}
	return nil
}

func (f *Fault) answerProblem() *problem {
	switch {
	case f.Latency < 0 || f.Latency > latencyMax:
		return &problem{"latency", fmt.Sprintf("%v, want 0 to %v", f.Latency, latencyMax)}
	case f.DateSkew < -dateSkewMax || f.DateSkew > dateSkewMax:
		return &problem{"dateSkew", fmt.Sprintf("%v, want at most 100 years", f.DateSkew)}
	case f.Status != 0 && (f.Status < 200 || f.Status > 599):
		return &problem{"status", fmt.Sprintf("status %d, want 200 to 599", f.Status)}
	case f.ErrorType != "" && f.Status == 0:
		return &problem{"errorType", "an error type needs a status"}
	case f.RetryAfter < 0 || f.RetryAfter > retryAfterMax || f.RetryAfter%time.Second != 0:
		return &problem{"retryAfter", fmt.Sprintf("%v, want whole seconds, at most %v", f.RetryAfter, retryAfterMax)}
	case f.RetryAfter != 0 && f.Status == 0:
		return &problem{"retryAfter", "Retry-After needs a status"}
	case f.ContentType != "" && f.Body == "" && f.Status == 0: // it would be 200, which confirms
		return &problem{"contentType", "a content type needs a body or a status"}
	case len(f.Body) > bodyBytesMax:
		return &problem{"body", fmt.Sprintf("%d bytes, at most %d", len(f.Body), bodyBytesMax)}
	}
	return nil
}

func (f *Fault) headerProblem() *problem {
	if len(f.Header) > headersMax {
		return &problem{"header", fmt.Sprintf("%d headers, at most %d", len(f.Header), headersMax)}
	}
	texts := map[string]string{"errorType": f.ErrorType, "contentType": f.ContentType}
	for _, name := range slices.Sorted(maps.Keys(f.Header)) {
		switch canonical := http.CanonicalHeaderKey(name); {
		case !isToken(name):
			return &problem{"header", fmt.Sprintf("%.60q is not the name of a header", name)}
		case canonical == "Content-Length" || canonical == "Transfer-Encoding" || canonical == "Connection":
			return &problem{"header", name + " is the connection's own; use truncate or drop"}
		}
		texts["header"] += f.Header[name]
	}
	for _, field := range slices.Sorted(maps.Keys(texts)) {
		if text := texts[field]; len(text) > headersMax*headerBytesMax || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return &problem{field, "text of at most 32 KiB without control characters is wanted"}
		}
	}
	return nil
}

func isToken(s string) bool {
	return s != "" && len(s) <= nameBytesMax && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
	})
}

func (f *Fault) wordProblem() *problem {
	return cmp.Or(oneOf("page", f.Page, pages), oneOf("mangle", f.Mangle, mangles), oneOf("tls", f.TLS, tlses))
}

func oneOf[T ~string](field string, value T, known []T) *problem {
	if value == "" || slices.Contains(known, value) {
		return nil
	}
	return &problem{field, fmt.Sprintf("%.60q, want one of %q", value, known)}
}

// pairProblem finds fields that do not go together.
func (f *Fault) pairProblem() *problem {
	if found := f.outcomes(); len(found) > 1 {
		return &problem{found[1], fmt.Sprintf("%s and %s are two outcomes: make two faults", found[0], found[1])}
	}
	plane := slices.Contains([]cloudsync.Operation{"", DataPlane, ControlPlane, MQTT, Credentials}, f.Operation)
	switch {
	case f.Page != "" && !plane && !isListing(f.Operation):
		return &problem{"page", string(f.Operation) + " does not answer in pages"}
	case f.Page != "" && plane && f.Operation != "" && f.Operation != ControlPlane:
		return &problem{"page", "nothing of " + string(f.Operation) + " answers in pages"}
	case f.TLS != "" && !plane:
		return &problem{"tls", "a connection is not made for one operation: use data-plane, control-plane, mqtt, credentials, or leave operation out"}
	case f.TLS != "" && (f.Latency != 0 || f.DateSkew != 0 || len(f.Header) > 0):
		return &problem{"tls", "it strikes before there is a request: latency, dateSkew and header need a fault of their own"}
	}
	return nil
}

// wire is a fault's form in documents.
type wire struct {
	Operation   cloudsync.Operation `json:"operation,omitempty"`
	Skip        int                 `json:"skip,omitempty"`
	Every       int                 `json:"every,omitempty"`
	Count       int                 `json:"count,omitempty"`
	Probability float64             `json:"probability,omitempty"`
	Latency     string              `json:"latency,omitempty"`
	DateSkew    string              `json:"dateSkew,omitempty"`
	Header      map[string]string   `json:"header,omitempty"`
	Status      int                 `json:"status,omitempty"`
	ErrorType   string              `json:"errorType,omitempty"`
	RetryAfter  string              `json:"retryAfter,omitempty"`
	Body        string              `json:"body,omitempty"`
	ContentType string              `json:"contentType,omitempty"`
	Drop        bool                `json:"drop,omitempty"`
	Blackhole   bool                `json:"blackhole,omitempty"`
	Truncate    bool                `json:"truncate,omitempty"`
	Mangle      Mangle              `json:"mangle,omitempty"`
	Page        Page                `json:"page,omitempty"`
	TLS         TLS                 `json:"tls,omitempty"`
}

// MarshalJSON writes the form that Parse reads.
func (f Fault) MarshalJSON() ([]byte, error) {
	text := func(d time.Duration) string {
		if d == 0 {
			return ""
		}
		return d.String()
	}
	return json.Marshal(wire{
		f.Operation, f.Skip, f.Every, f.Count, f.Probability, text(f.Latency), text(f.DateSkew), f.Header, f.Status, f.ErrorType, text(f.RetryAfter),
		f.Body, f.ContentType, f.Drop, f.Blackhole, f.Truncate, f.Mangle, f.Page, f.TLS,
	})
}

// UnmarshalJSON reads what Parse reads.
func (s *Script) UnmarshalJSON(text []byte) error {
	read, err := Parse(text)
	if err != nil {
		return err
	}
	*s = read
	return nil
}

// UnmarshalJSON reads it, as strictly as Parse.
func (f *Fault) UnmarshalJSON(text []byte) error {
	s, err := Parse(slices.Concat([]byte(`{"faults":[`), text, []byte(`]}`)))
	if err != nil {
		return err
	}
	if len(s.Faults) != 1 {
		return errors.New("fault: want one")
	}
	*f = s.Faults[0]
	return nil
}
