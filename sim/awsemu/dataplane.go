package awsemu

import (
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/gatehouse-edge/gatehouse/cloudsync"
	"github.com/gatehouse-edge/gatehouse/cloudsync/iotpolicy"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/fault"
)

// requestBytesMax bounds a request in JSON; a certificate has at most 16 KiB. A message to
// publish is longer.
const (
	requestBytesMax = 64 << 10
	bodyBytesMax    = messageBytesMax
)

// apiError is an error as AWS answers it (cloud spec 1.4).
type apiError struct {
	status       int
	name         string
	message      string
	resourceID   string // with ResourceNotFoundException
	resourceType string
	body         any // in place of all that but status and name; nil: none
}

func validation(message string) *apiError {
	return &apiError{status: http.StatusBadRequest, name: "ValidationException", message: message}
}

func notFound(resourceType, id string) *apiError {
	return &apiError{
		status: http.StatusNotFound, name: "ResourceNotFoundException",
		message: resourceType + " not found", resourceID: id, resourceType: resourceType,
	}
}

// serveDataPlane answers one request of the Greengrass data plane, with AWS's order of
// checks: the caller's certificate, whether it may ask, then the request (cloud spec 1.7).
func (e *Emulator) serveDataPlane(w http.ResponseWriter, r *http.Request) {
	state, ok := connState(r)
	if !ok || len(state.PeerCertificates) == 0 {
		panic(http.ErrAbortHandler)
	}
	caller := messages.CertificateIDOf(state.PeerCertificates[0].Raw)
	active, core := e.registry.Caller(caller)
	if !active || !e.knownAt(caller, state.ServerName) {
		// AWS finishes the handshake with any certificate and then hangs up.
		panic(http.ErrAbortHandler)
	}
	found, parameters := findRoute(e.dataRoutes, "", r.Method, r.URL.EscapedPath())
	query, badQuery := parseQuery(r.URL.RawQuery)
	c := &call{caller: caller, parameters: parameters, query: query, header: r.Header, gone: r.Context().Done(), address: r.RemoteAddr}
	if found != nil {
		c.op = found.op
	}
	e.exchange(w, r, fault.DataPlane, c.op, func(body []byte, page fault.Page) (any, *apiError) {
		c.body, c.fault, c.traceID = body, page, traceOf(w)
		switch {
		case badQuery != nil:
			return nil, &apiError{status: http.StatusBadRequest, name: "SerializationException", message: badQuery.Error()}
		case found != nil && found.service == iotData:
			return e.serveIoTData(found, c)
		case !core && c.op != OpDiscover, core && ofOneCore[c.op] && !e.registry.Attached(messages.ThingName(parameters[0]), caller):
			return nil, accessDenied(c)
		case found == nil:
			return nil, unknownOperation()
		case e.Authorize(Bearer{Certificate: caller, Address: r.RemoteAddr}, found.action(), dataResource(c)).Decision != iotpolicy.Allowed:
			return nil, accessDenied(c)
		}
		return found.serve(e, c)
	})
}

// dataResource is what a policy must allow the operation on (cloud spec 1.7).
func dataResource(c *call) string {
	switch {
	case c.op == OpDiscover || ofOneCore[c.op]:
		return thingARN(c.parameters[0])
	case c.op == cloudsync.OpVerifyAssociation:
		var request associationRequest
		_ = json.Unmarshal(c.body, &request) // what is malformed is refused behind this
		return thingARN(request.Thing)
	}
	return "*"
}

// ofOneCore are the operations that a core may ask for under its own name alone, which is
// in their path, whatever its policy allows beside (cloud spec 1.7).
var ofOneCore = map[cloudsync.Operation]bool{OpGetConnectivityInfo: true, OpUpdateConnectivityInfo: true}

// newDataRoutes says where the data plane's operations live: those that AWS publishes, and
// those of unpublished.
func newDataRoutes(unpublished cloudsync.Routes) []route {
	routes := []route{
		newRoute(OpGetConnectivityInfo, greengrass, "GET", connectivityPath, nil, (*Emulator).getConnectivityInfo),
		newRoute(OpUpdateConnectivityInfo, greengrass, "PUT", connectivityPath, nil, (*Emulator).updateConnectivityInfo),
		newRoute(OpDiscover, greengrass, "GET", "greengrass/discover/thing/*", nil, (*Emulator).discover),
	}
	for op, serve := range map[cloudsync.Operation]func(*Emulator, *call) (any, *apiError){
		cloudsync.OpVerifyIdentity:    withServiceRole(func(e *Emulator, c *call) (any, *apiError) { return e.verifyIdentity(c.body) }),
		cloudsync.OpVerifyAssociation: withServiceRole(func(e *Emulator, c *call) (any, *apiError) { return e.verifyAssociation(c.body) }),
		cloudsync.OpPutAuthorities:    (*Emulator).putCertificateAuthorities,
	} {
		r := unpublished[op]
		routes = append(routes, newRoute(op, greengrass, r.Method, strings.TrimPrefix(r.PathFor("*"), "/"), nil, serve))
	}
	return append(routes, iotDataRoutes...)
}

// protocol writes what an operation answers or refuses; id is the request's.
type protocol func(id string, value any, refused *apiError) *answer

// restJSON is the protocol of all but the query services.
func restJSON(_ string, value any, refused *apiError) *answer { return trueAnswer(value, refused) }

// exchange answers one request with what truth says, unless a fault says otherwise.
func (e *Emulator) exchange(w http.ResponseWriter, r *http.Request, plane, op cloudsync.Operation, truth func(body []byte, page fault.Page) (any, *apiError)) {
	body := readBody(r)
	e.exchangeIn(restJSON, w, r, plane, op, func(page fault.Page) (any, *apiError) { return truth(body, page) })
}

// readBody reads a request's body, before anything is waited for: only then does net/http
// notice a caller that hangs up.
func readBody(r *http.Request) []byte {
	body, err := io.ReadAll(io.LimitReader(r.Body, bodyBytesMax+1))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	return body
}

// exchangeIn is exchange in a protocol, of a request whose body was read.
func (e *Emulator) exchangeIn(write protocol, w http.ResponseWriter, r *http.Request, plane, op cloudsync.Operation, truth func(page fault.Page) (any, *apiError)) {
	e.count(op)
	effect := e.effect(plane, op)
	e.hold(r.Context(), effect.Latency)
	header, id := w.Header(), requestID()
	header.Set("Content-Type", "application/json")
	header.Set("Date", e.now().Add(effect.DateSkew).UTC().Format(http.TimeFormat))
	header.Set("x-amzn-RequestId", id)
	for name, value := range effect.Header {
		header.Set(name, value)
	}
	f := effect.Outcome
	switch {
	case f == nil:
		f = &Fault{}
	case f.Drop:
		panic(http.ErrAbortHandler)
	case f.Blackhole:
		e.hold(r.Context(), -1)
	case f.Status != 0 || f.Body != "":
		injected(f, write, id).write(w, false)
		return
	}
	value, refused := truth(f.Page)
	a := write(id, value, refused)
	a.mangle(f.Mangle)
	a.write(w, f.Truncate)
}

type identityRequest struct {
	Certificate string `json:"clientDeviceCertificate"`
}

type identityAnswer struct {
	CertificateID messages.CertificateID `json:"clientDeviceCertificateId"`
}

type associationRequest struct {
	Thing         string `json:"clientDeviceThingName"`
	CertificateID string `json:"clientDeviceCertificateId"`
}

func (e *Emulator) verifyIdentity(body []byte) (any, *apiError) {
	var request identityRequest
	if refused := readRequest(body, &request); refused != nil {
		return nil, refused
	}
	block, _ := pem.Decode([]byte(request.Certificate))
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, validation("clientDeviceCertificate is not a PEM certificate")
	}
	if _, err := x509.ParseCertificate(block.Bytes); err != nil {
		return nil, validation("clientDeviceCertificate is malformed")
	}
	id := messages.CertificateIDOf(block.Bytes)
	if info, ok := e.registry.Certificate(id); !ok || info.Status != StatusActive {
		return nil, notFound("Certificate", string(id))
	}
	return identityAnswer{CertificateID: id}, nil
}

func (e *Emulator) verifyAssociation(body []byte) (any, *apiError) {
	var request associationRequest
	if refused := readRequest(body, &request); refused != nil {
		return nil, refused
	}
	name, err := messages.ParseThingName(request.Thing)
	if err != nil {
		return nil, validation("clientDeviceThingName is malformed")
	}
	id, err := messages.ParseCertificateID(request.CertificateID)
	if err != nil {
		return nil, validation("clientDeviceCertificateId is malformed")
	}
	if !e.registry.Attached(name, id) {
		return nil, notFound("Association", string(name))
	}
	return struct{}{}, nil
}

func readRequest(text []byte, into any) *apiError {
	if len(text) > requestBytesMax {
		return &apiError{status: http.StatusRequestEntityTooLarge, name: "RequestEntityTooLargeException", message: "the request is too large"}
	}
	if err := json.Unmarshal(text, into); err != nil {
		return &apiError{status: http.StatusBadRequest, name: "SerializationException", message: "the request is not a JSON object of the right shape"}
	}
	return nil
}

// trueAnswer is an operation's answer, or its refusal.
func trueAnswer(value any, refused *apiError) *answer {
	if refused == nil {
		return &answer{status: http.StatusOK, header: map[string]string{}, body: encodeJSON(value)}
	}
	body := refused.body
	if body == nil {
		members := map[string]string{"message": refused.message}
		if refused.resourceID != "" {
			members["resourceId"], members["resourceType"] = refused.resourceID, refused.resourceType
		}
		body = members
	}
	return &answer{status: refused.status, header: map[string]string{"X-Amzn-ErrorType": refused.name}, body: encodeJSON(body)}
}

func encodeJSON(value any) []byte {
	text, err := json.Marshal(value)
	if err != nil {
		panic(errors.Join(errors.New("awsemu: an answer that is no JSON"), err))
	}
	return text
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(encodeJSON(value)) // the caller has hung up, if it fails
}

func requestID() string { return formatUUID(hex.EncodeToString(random(16))) }

// formatUUID writes 32 hex digits as a UUID.
func formatUUID(h string) string {
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// now is the emulated cloud's time.
func (e *Emulator) now() time.Time { return e.cfg.Now() }
