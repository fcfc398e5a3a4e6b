package awsemu

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/gatehouse-edge/gatehouse/cloudsync"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/fault"
)

// The operations that AWS publishes, as it spells them (cloud spec 1.2, 1.6). Those on
// connectivity are at both planes of Greengrass, OpDiscover at the data plane alone.
const (
	OpGetConnectivityInfo      cloudsync.Operation = "GetConnectivityInfo"
	OpUpdateConnectivityInfo   cloudsync.Operation = "UpdateConnectivityInfo"
	OpDiscover                 cloudsync.Operation = "Discover"
	OpListClientDevices        cloudsync.Operation = "ListClientDevicesAssociatedWithCoreDevice"
	OpAssociateClientDevice    cloudsync.Operation = "BatchAssociateClientDeviceWithCoreDevice"
	OpDisassociateClientDevice cloudsync.Operation = "BatchDisassociateClientDeviceFromCoreDevice"
	OpDescribeCertificate      cloudsync.Operation = "DescribeCertificate"
	OpDescribeEndpoint         cloudsync.Operation = "DescribeEndpoint"
	OpDescribeThing            cloudsync.Operation = "DescribeThing"
	OpListThings               cloudsync.Operation = "ListThings"
	OpListThingPrincipals      cloudsync.Operation = "ListThingPrincipals"
	OpListThingPrincipalsV2    cloudsync.Operation = "ListThingPrincipalsV2"
)

// service is one of AWS's services on the one address of the control plane.
type service struct {
	name   string   // as in permissions
	scopes []string // the names that clients sign for it; the first is what AWS asks for
	global bool     // may be signed for globalRegion, too
}

var (
	greengrass = &service{"greengrass", []string{"greengrass"}, false}
	// awscli signs for execute-api what aws-sdk-go-v2 signs for iot (cloud spec 7.6).
	iot = &service{"iot", []string{"iot", "execute-api"}, false}
	// someService is what an unknown operation may be signed for.
	someService = &service{"", slices.Concat(iot.scopes, greengrass.scopes), false}
)

// route is where an operation lives, and what may call it.
type route struct {
	op       cloudsync.Operation
	service  *service
	method   string
	path     []string // segments; "*" stands for a parameter
	resource func(parameters []string) string
	serve    func(*Emulator, *call) (any, *apiError)
	narrow   func(resource string, query url.Values) string // by the query; nil: it is as it is
}

// call is one request for an operation whose caller is known.
type call struct {
	op         cloudsync.Operation
	parameters []string // of the path, unescaped
	query      url.Values
	header     http.Header
	body       []byte
	caller     messages.CertificateID // at the data plane
	who        *identity              // at the control planes
	traceID    string                 // of the request
	address    string                 // of the caller, at the data plane
	gone       <-chan struct{}        // closed when the caller has hung up
	of         string                 // what a listing is of, beside the path's parameters
	fault      fault.Page             // what is to go wrong with a page of a listing
}

const (
	coreDevices      = "greengrass/v2/coreDevices/*"
	connectivityPath = "greengrass/things/*/connectivityInfo"
)

// controlRoutes are all operations of the control planes. fault names each, too.
var controlRoutes = slices.Concat(greengrassRoutes, iotRoutes, certificateRoutes, newCertificateRoutes, authorityRoutes, thingRoutes, principalRoutes, thingTypeRoutes, roleAliasRoutes, policyRoutes, groupRoutes, iotDataRoutes, templateRoutes, provisioningRoutes)

var greengrassRoutes = []route{
	newRoute(OpListClientDevices, greengrass, "GET", coreDevices+"/associatedClientDevices", coreARN, (*Emulator).listClientDevices),
	newRoute(OpAssociateClientDevice, greengrass, "POST", coreDevices+"/associateClientDevices", coreARN, (*Emulator).associateClientDevices),
	newRoute(OpDisassociateClientDevice, greengrass, "POST", coreDevices+"/disassociateClientDevices", coreARN, (*Emulator).disassociateClientDevices),
	newRoute(OpGetConnectivityInfo, greengrass, "GET", connectivityPath, thingARNOf, (*Emulator).getConnectivityInfo),
	newRoute(OpUpdateConnectivityInfo, greengrass, "PUT", connectivityPath, thingARNOf, (*Emulator).updateConnectivityInfo),
	newRoute("GetServiceRoleForAccount", greengrass, "GET", serviceRolePath, anything, (*Emulator).getServiceRole),
	newRoute("AssociateServiceRoleToAccount", greengrass, "PUT", serviceRolePath, anything, (*Emulator).associateServiceRole),
	newRoute("DisassociateServiceRoleFromAccount", greengrass, "DELETE", serviceRolePath, anything, (*Emulator).disassociateServiceRole),
}

var iotRoutes = []route{
	newRoute(OpDescribeEndpoint, iot, "GET", "endpoint", anything, (*Emulator).describeEndpoint),
}

func newRoute(op cloudsync.Operation, s *service, method, path string, resource func([]string) string, serve func(*Emulator, *call) (any, *apiError)) route {
	return route{op: op, service: s, method: method, path: strings.Split(path, "/"), resource: resource, serve: serve}
}

// action is the permission that the operation needs.
func (r *route) action() string { return r.service.name + ":" + string(r.op) }

// findRoute finds the operation by method and path as they were sent: split first and
// unescaped then, so that an escaped slash stays inside its segment, and without any
// cleaning. Where several services have the path, scope, the name that was signed for,
// decides.
func findRoute(routes []route, scope, method, escapedPath string) (*route, []string) {
	segments := strings.Split(strings.TrimPrefix(escapedPath, "/"), "/")
	var (
		found      *route
		parameters []string
	)
	for i := range routes {
		r := &routes[i]
		given, ok := r.match(method, segments)
		if ok && (found == nil || slices.Contains(r.service.scopes, scope)) {
			found, parameters = r, given
		}
	}
	return found, parameters
}

func (r *route) match(method string, segments []string) (parameters []string, ok bool) {
	if r.method != method || len(r.path) != len(segments) {
		return nil, false
	}
	for i, want := range r.path {
		if want != "*" {
			if segments[i] != want {
				return nil, false
			}
			continue
		}
		value, err := url.PathUnescape(segments[i])
		if err != nil || value == "" {
			return nil, false
		}
		parameters = append(parameters, value)
	}
	return parameters, true
}

const arnPrefix = ":" + Region + ":" + AccountID + ":"

func anything([]string) string { return "*" }
func coreARN(parameters []string) string {
	return "arn:aws:greengrass" + arnPrefix + "coreDevices:" + parameters[0]
}
func thingARN(name string) string                 { return "arn:aws:iot" + arnPrefix + "thing/" + name }
func thingARNOf(parameters []string) string       { return thingARN(parameters[0]) }
func certificateARN(id string) string             { return "arn:aws:iot" + arnPrefix + "cert/" + id }
func certificateARNOf(parameters []string) string { return certificateARN(parameters[0]) }
