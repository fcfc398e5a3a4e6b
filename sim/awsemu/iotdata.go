package awsemu

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/gatehouse-edge/gatehouse/cloudsync/iotpolicy"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/fault"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/shadow"
)

// AWS IoT's data plane over HTTPS: for callers who sign at the control planes' address, for
// devices with a certificate at the data plane's (cloud spec 0, 5).

// iotData signs with another name than iot, and its permissions are iot's.
var iotData = &service{"iot", []string{"iotdata"}, false}

// iotDataRoutes are at both planes.
var iotDataRoutes = []route{
	ofShadow(newRoute(fault.GetShadow, iotData, "GET", shadowPath, thingARNOf, (*Emulator).getThingShadow)),
	ofShadow(newRoute(fault.UpdateShadow, iotData, "POST", shadowPath, thingARNOf, (*Emulator).updateThingShadow)),
	ofShadow(newRoute(fault.DeleteShadow, iotData, "DELETE", shadowPath, thingARNOf, (*Emulator).deleteThingShadow)),
	newRoute("ListNamedShadowsForThing", iotData, "GET", "api/things/shadow/ListNamedShadowsForThing/*", thingARNOf, (*Emulator).listNamedShadows),
	newRoute(fault.Publish, iotData, "POST", "topics/*", topicARNOf, (*Emulator).publishOverHTTP),
	newRoute("GetRetainedMessage", iotData, "GET", "retainedMessage/*", topicARNOf, (*Emulator).getRetainedMessage),
	newRoute("ListRetainedMessages", iotData, "GET", "retainedMessage", anything, (*Emulator).listRetainedMessages),
	newRoute("GetConnection", iotData, "GET", connectionPath, clientARNOf, (*Emulator).getConnection),
	newRoute("DeleteConnection", iotData, "DELETE", connectionPath, clientARNOf, (*Emulator).deleteConnection),
	newRoute("ListSubscriptions", iotData, "GET", connectionPath+"/subscriptions", clientARNOf, (*Emulator).listSubscriptions),
}

const (
	shadowPath     = "things/*/shadow"
	connectionPath = "connections/*"
)

func topicARNOf(parameters []string) string  { return topicARN(parameters[0]) }
func clientARNOf(parameters []string) string { return clientARN(parameters[0]) }

// ofShadow has permissions asked for the shadow that the query names.
func ofShadow(r route) route {
	r.narrow = func(resource string, query url.Values) string {
		if name := query.Get("name"); name != "" {
			return resource + "/" + name
		}
		return resource
	}
	return r
}

// resourceOf is what a permission is needed for.
func (r *route) resourceOf(parameters []string, query url.Values) string {
	resource := r.resource(parameters)
	if r.narrow != nil {
		resource = r.narrow(resource, query)
	}
	return resource
}

// forIoTData puts a refusal in the form of iot-data, which says less, and has the request's
// id in the body.
func (refused *apiError) forIoTData(traceID string) *apiError {
	if refused == nil || refused.body != nil {
		return refused
	}
	said := *refused
	var message any = refused.message
	if refused.name == "AccessDeniedException" {
		said.name, message = "ForbiddenException", "Forbidden"
	}
	said.body = map[string]any{"message": message, "traceId": traceID}
	return &said
}

// forbidden refuses a caller; a device hears no word (cloud spec 6).
func (c *call) forbidden() *apiError {
	var message any = "Forbidden"
	if c.who == nil {
		message = nil
	}
	return &apiError{status: http.StatusForbidden, name: "ForbiddenException", body: map[string]any{"message": message, "traceId": c.traceID}}
}

// forService puts a refusal in the form of the service that was asked.
func forService(refused *apiError, asked *route, traceID string) *apiError {
	if asked != nil && asked.service == iotData {
		return refused.forIoTData(traceID)
	}
	return refused
}

// may says whether who asks may do something besides.
func (c *call) may(e *Emulator, action, resource string) bool {
	if c.who != nil {
		return c.who.authorize(action, resource) == nil
	}
	return e.Authorize(Bearer{Certificate: c.caller, Address: c.address}, action, resource).Decision == iotpolicy.Allowed
}

// serveIoTData answers a device with a certificate.
func (e *Emulator) serveIoTData(r *route, c *call) (any, *apiError) {
	if !c.may(e, r.action(), r.resourceOf(c.parameters, c.query)) {
		return nil, c.forbidden()
	}
	answer, refused := r.serve(e, c)
	return answer, refused.forIoTData(c.traceID)
}

// shadowOf reads which shadow is meant.
func shadowOf(c *call) (ShadowID, *apiError) {
	id := ShadowID{Thing: c.parameters[0], Name: c.query.Get("name")}
	if err := id.check(); err != nil || c.query.Has("name") && id.Name == "" {
		return id, badRequest("Invalid thing or shadow name")
	}
	return id, nil
}

// shadowErrors are the names of what the shadow service refuses with.
var shadowErrors = map[int]string{
	http.StatusBadRequest: "InvalidRequestException", http.StatusNotFound: "ResourceNotFoundException", http.StatusConflict: "ConflictException",
	http.StatusRequestEntityTooLarge: "RequestEntityTooLargeException", http.StatusTooManyRequests: "ThrottlingException",
}

func shadowAnswer(document []byte, refused *shadow.Error) (any, *apiError) {
	if refused == nil {
		return json.RawMessage(document), nil
	}
	name := shadowErrors[refused.Code]
	if name == "" {
		name = "InternalFailureException"
	}
	return nil, iotError(refused.Code, name, refused.Message)
}

func (e *Emulator) getThingShadow(c *call) (any, *apiError) {
	id, refused := shadowOf(c)
	if refused != nil {
		return nil, refused
	}
	return shadowAnswer(e.registry.GetShadow(id, nil, e.now()))
}

func (e *Emulator) updateThingShadow(c *call) (any, *apiError) {
	id, refused := shadowOf(c)
	if refused != nil {
		return nil, refused
	}
	return shadowAnswer(e.registry.UpdateShadow(id, c.body, e.now()))
}

func (e *Emulator) deleteThingShadow(c *call) (any, *apiError) {
	id, refused := shadowOf(c)
	if refused != nil {
		return nil, refused
	}
	return shadowAnswer(e.registry.DeleteShadow(id, nil, e.now()))
}

const (
	shadowNamesPage = 25
	shadowNamesMax  = 100
)

func (e *Emulator) listNamedShadows(c *call) (any, *apiError) {
	thing := c.parameters[0]
	if err := (ShadowID{Thing: thing}).check(); err != nil {
		return nil, badRequest("Invalid thing name")
	}
	p, refused := e.pageIn(c, "pageSize", "nextToken", shadowNamesPage, shadowNamesMax)
	if refused != nil {
		return nil, refused
	}
	names, more := e.registry.shadowNames(thing, p.after, p.limit)
	names, next := turn(e, p, names, more, func(name string) string { return name })
	return struct {
		Results   []string `json:"results"`
		NextToken string   `json:"nextToken,omitempty"`
		Time      int64    `json:"timestamp"` // seconds
	}{names, next, e.now().Unix()}, nil
}

// serveOwnTopic takes an HTTP publish to a topic that belongs to the service: a request for
// a shadow, whose answer is published, or basic ingest, for which there are no rules here.
// Nobody may forge the rest, such as registration events (cloud spec 4.4).
func (e *Emulator) serveOwnTopic(topic string, payload []byte) *apiError {
	op, id, ok := shadowOperation(topic)
	switch {
	case ok:
		e.mqtt.answerShadow(op, id, payload, nil)
	case !isBasicIngest(topic):
		return badRequest(fmt.Sprintf("Topic %.80q is reserved", topic))
	}
	return nil
}

func traceOf(w http.ResponseWriter) string { return w.Header().Get("x-amzn-RequestId") }

// milliseconds is a time as iot-data has it.
func milliseconds(at time.Time) int64 { return at.UnixMilli() }
