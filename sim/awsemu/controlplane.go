package awsemu

import (
	"bytes"
	"io"
	"net/http"

	"github.com/gatehouse-edge/gatehouse/cloudsync"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/fault"
)

// serveControlPlane answers one request of the control planes: who asks, may they, then
// the request (cloud spec 7).
func (e *Emulator) serveControlPlane(w http.ResponseWriter, r *http.Request) {
	scope := ""
	if auth, refused := parseAuthorization(r.Header.Values("Authorization")); refused == nil {
		scope = auth.service
	}
	if r.Method == http.MethodPost && r.URL.EscapedPath() == "/" {
		body := readBody(r)
		if e.serveQuery(w, r, scope, body) {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	found, parameters := findRoute(controlRoutes, scope, r.Method, r.URL.EscapedPath())
	op := cloudsync.Operation("")
	if found != nil {
		op = found.op
	}
	e.exchange(w, r, fault.ControlPlane, op, func(body []byte, page fault.Page) (any, *apiError) {
		query, badQuery := parseQuery(r.URL.RawQuery)
		called := someService
		if found != nil {
			called = found.service
		}
		who, refused := e.account.authenticate(r, query, body, called, e.now())
		switch {
		case refused != nil:
			return nil, forService(refused, found, traceOf(w))
		case badQuery != nil:
			return nil, &apiError{status: http.StatusBadRequest, name: "SerializationException", message: badQuery.Error()}
		case found == nil:
			return nil, unknownOperation()
		}
		if refused := who.authorize(found.action(), found.resourceOf(parameters, query)); refused != nil {
			return nil, forService(refused, found, traceOf(w))
		}
		if !e.throttle.take(op, e.now()) {
			return nil, forService(throttled(found.service, op), found, traceOf(w))
		}
		answer, refused := found.serve(e, &call{
			op: op, parameters: parameters, query: query, header: r.Header, body: body, who: who, fault: page, traceID: traceOf(w), gone: r.Context().Done(),
		})
		return answer, forService(refused, found, traceOf(w))
	})
}

func unknownOperation() *apiError {
	return &apiError{status: http.StatusNotFound, name: "UnknownOperationException", message: "unknown operation"}
}
