package awsemu

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/gatehouse-edge/gatehouse/cloudsync"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/fault"
)

// AWS's Query protocol, which IAM and STS speak: a form with the action in it goes to the
// path /, and XML comes back. Both are at the control planes' address; what was signed
// for, or else the version in the form, tells them apart.

// globalRegion is the one that clients sign for where a service has no regions.
const globalRegion = "us-east-1"

// queryService is a service that speaks it.
type queryService struct {
	service
	version   string
	namespace string
}

var (
	iam = &queryService{service{"iam", []string{"iam"}, true}, "2010-05-08", "https://iam.amazonaws.com/doc/2010-05-08/"}
	sts = &queryService{service{"sts", []string{"sts"}, true}, "2011-06-15", "https://sts.amazonaws.com/doc/2011-06-15/"}
)

// queryRoute is an operation of a query service.
type queryRoute struct {
	op      cloudsync.Operation // with the service's prefix: IAM's GetPolicy is not IoT's
	service *queryService
	// resource is what the caller needs a permission for; nil: the operation sees to that.
	resource func(*Emulator, url.Values) string
	// listed names the parameter that a listing is of, if it is one.
	listed string
	serve  func(*Emulator, *call) (any, *apiError)
}

// queryRoutes are all operations of the query services. fault names each, too.
var queryRoutes = slices.Concat(iamRoutes, stsRoutes)

// queryServiceOf says which service a request for the path / is for; nil: none of these.
func queryServiceOf(scope, version string) *queryService {
	for _, s := range []*queryService{iam, sts} {
		if slices.Contains(s.scopes, scope) {
			return s
		}
	}
	for _, s := range []*queryService{iam, sts} {
		if s.version == version {
			return s
		}
	}
	return nil
}

// serveQuery answers a request for the path / with body, if it is one of a query service.
func (e *Emulator) serveQuery(w http.ResponseWriter, r *http.Request, scope string, body []byte) bool {
	form, badForm := readForm(body)
	called := queryServiceOf(scope, form.Get("Version"))
	if called == nil {
		return false
	}
	action := form.Get("Action")
	var found *queryRoute
	if i := slices.IndexFunc(queryRoutes, func(q queryRoute) bool {
		return q.service == called && string(q.op) == called.name+":"+action && form.Get("Version") == called.version
	}); i >= 0 {
		found = &queryRoutes[i]
	}
	op := cloudsync.Operation("")
	if found != nil {
		op = found.op
	}
	e.exchangeIn(called.protocol(action), w, r, fault.ControlPlane, op, func(page fault.Page) (any, *apiError) {
		if len(body) > requestBytesMax {
			return nil, &apiError{status: http.StatusRequestEntityTooLarge, name: "RequestEntityTooLarge", message: "the request is too large"}
		}
		query, badQuery := parseQuery(r.URL.RawQuery)
		who, refused := e.account.authenticate(r, query, body, &called.service, e.now())
		switch {
		case refused != nil:
			return nil, refused
		case badForm != nil || badQuery != nil || len(query) > 0:
			return nil, &apiError{status: http.StatusBadRequest, name: "MalformedQueryString", message: "The parameters are to be in the body, as a form that gives each once."}
		case found == nil:
			return nil, &apiError{status: http.StatusBadRequest, name: "InvalidAction", message: fmt.Sprintf("Could not find operation %.80s for version %.20s", action, form.Get("Version"))}
		}
		if found.resource != nil {
			if refused := who.authorize(string(op), found.resource(e, form)); refused != nil {
				return nil, refused
			}
		}
		return found.serve(e, &call{op: op, parameters: []string{form.Get(found.listed)}, query: form, header: r.Header, body: body, who: who, fault: page})
	})
	return true
}

// readForm reads a form in which no parameter comes twice. With an error it is empty.
func readForm(body []byte) (url.Values, error) {
	if len(body) > requestBytesMax {
		return url.Values{}, errQuery
	}
	form, err := parseQuery(string(body))
	if err != nil {
		return url.Values{}, err
	}
	for _, values := range form {
		if len(values) > 1 {
			return url.Values{}, errQuery
		}
	}
	return form, nil
}

// queryNames are errors that the query services call by another name.
var queryNames = map[string]string{
	"UnrecognizedClientException": "InvalidClientTokenId", "InvalidSignatureException": "SignatureDoesNotMatch",
	"InvalidRequestException": "ValidationError", "ValidationException": "ValidationError", "ThrottlingException": "Throttling",
	"InternalServerException": "ServiceFailure", "InternalFailureException": "ServiceFailure",
}

type queryMetadata struct {
	RequestID string `xml:"RequestId"`
}

type queryError struct {
	XMLName   xml.Name `xml:"ErrorResponse"`
	Namespace string   `xml:"xmlns,attr"`
	Type      string   `xml:"Error>Type"`
	Code      string   `xml:"Error>Code"`
	Message   string   `xml:"Error>Message"`
	RequestID string   `xml:"RequestId"`
}

// protocol writes the answers to action.
func (s *queryService) protocol(action string) protocol {
	return func(id string, value any, refused *apiError) *answer {
		a := &answer{status: http.StatusOK, header: map[string]string{"Content-Type": "text/xml"}}
		if refused == nil {
			a.body = s.encode(action, id, value)
			return a
		}
		code, known := queryNames[refused.name]
		if !known {
			code = strings.TrimSuffix(refused.name, "Exception")
		}
		side := "Sender"
		if refused.status >= http.StatusInternalServerError {
			side = "Receiver"
		}
		a.status, a.body = refused.status, encodeXML(queryError{Namespace: s.namespace, Type: side, Code: code, Message: refused.message, RequestID: id})
		return a
	}
}

// encode wraps a result; an operation without one has nil.
func (s *queryService) encode(action, id string, result any) []byte {
	var b bytes.Buffer
	encoder := xml.NewEncoder(&b)
	root := xml.StartElement{Name: xml.Name{Local: action + "Response"}, Attr: []xml.Attr{{Name: xml.Name{Local: "xmlns"}, Value: s.namespace}}}
	steps := []func() error{
		func() error { return encoder.EncodeToken(root) },
		func() error {
			if result == nil {
				return nil
			}
			return encoder.EncodeElement(result, xml.StartElement{Name: xml.Name{Local: action + "Result"}})
		},
		func() error {
			return encoder.EncodeElement(queryMetadata{id}, xml.StartElement{Name: xml.Name{Local: "ResponseMetadata"}})
		},
		func() error { return encoder.EncodeToken(root.End()) },
		encoder.Flush,
	}
	for _, step := range steps {
		if err := step(); err != nil {
			panic(fmt.Errorf("awsemu: an answer that is no XML: %w", err))
		}
	}
	return b.Bytes()
}

func encodeXML(value any) []byte {
	text, err := xml.Marshal(value)
	if err != nil {
		panic(fmt.Errorf("awsemu: an answer that is no XML: %w", err))
	}
	return text
}

// members is a list in XML, which is there also when it is empty.
type members[T any] struct {
	Members []T `xml:"member"`
}
