package cloudsync

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// Operation names an operation of the Greengrass data plane, as AWS spells it.
type Operation string

// The operations whose paths AWS does not publish (cloud spec 1.2): two ask about a client
// device, the third publishes the core's authority.
const (
	OpVerifyIdentity    Operation = "VerifyClientDeviceIdentity"
	OpVerifyAssociation Operation = "VerifyClientDeviceIoTCertificateAssociation"
	OpPutAuthorities    Operation = "PutCertificateAuthorities"
)

// Route is where an operation lives on the data plane's host.
type Route struct {
	Method string // POST or PUT
	Path   string // absolute, without query; CoreInPath stands for the core's thing name
}

// CoreInPath is a segment of OpPutAuthorities' path that stands for the core's thing name.
const CoreInPath = "{coreDeviceThingName}"

// PathFor is the route's path as the core named sends it.
func (r Route) PathFor(core messages.ThingName) string {
	return strings.ReplaceAll(r.Path, CoreInPath, string(core))
}

// Routes says where each operation lives.
type Routes map[Operation]Route

// ErrUnpublishedPath means that the endpoint is AWS's own and the path of an operation
// was left to Gatehouse, which cannot know it.
var ErrUnpublishedPath = errors.New("AWS does not publish this operation's path")

// defaultRoutes is the one table of paths that AWS does not publish. They are
// Gatehouse's inventions (cloud spec 10.1), good for its emulator only.
var defaultRoutes = Routes{
	OpVerifyIdentity:    {Method: http.MethodPost, Path: "/greengrass/v2/clientDevices/verifyIdentity"},
	OpVerifyAssociation: {Method: http.MethodPost, Path: "/greengrass/v2/clientDevices/verifyCertificateAssociation"},
	OpPutAuthorities:    {Method: http.MethodPut, Path: "/greengrass/v2/coreDevices/" + CoreInPath + "/certificateAuthorities"},
}

// DefaultRoutes returns a copy of Gatehouse's own table, the one sim/awsemu serves.
func DefaultRoutes() Routes { return maps.Clone(defaultRoutes) }

// CheckRoutes says why the data plane at endpoint cannot be asked by routes for what is
// needed, as NewDataPlane does, before there are files to reach it with.
func CheckRoutes(endpoint string, routes Routes, needed ...Operation) error {
	base, err := ParseEndpoint(endpoint)
	if err != nil {
		return err
	}
	_, err = routesFor(base.Hostname(), routes, needed...)
	return err
}

// routesFor completes the operator's routes with Gatehouse's own. Against one of AWS's
// hosts nothing is completed, and what is needed must be given: sending devices'
// certificates to a guessed path would at best fail, and at worst be answered by something
// that is not the operation meant.
func routesFor(host string, given Routes, needed ...Operation) (Routes, error) {
	routes := DefaultRoutes()
	for op, route := range given {
		if _, known := routes[op]; !known {
			return nil, fmt.Errorf("route of %q: no such operation: want one of %v", op, slices.Sorted(maps.Keys(routes)))
		}
		if err := route.check(op); err != nil {
			return nil, fmt.Errorf("route of %s: %w", op, err)
		}
		routes[op] = route
	}
	if !IsAWSHost(host) {
		return routes, nil
	}
	for _, op := range needed {
		if _, set := given[op]; !set {
			return nil, fmt.Errorf("%w: %s on %s: set its path in cloud.operations%s", ErrUnpublishedPath, op, host, otherwise[op])
		}
	}
	return routes, nil
}

// otherwise is what an operator can do who has no path.
var otherwise = map[Operation]string{
	OpVerifyIdentity:    ", or ask AWS by published operations with cloud.verifier: iot",
	OpVerifyAssociation: ", or ask AWS by published operations with cloud.verifier: iot",
	OpPutAuthorities:    ", or give devices the authority's certificate by other means",
}

const pathBytesMax = 256

func (r Route) check(op Operation) error {
	if r.Method != http.MethodPost && r.Method != http.MethodPut {
		return fmt.Errorf("method %q: want POST or PUT", r.Method)
	}
	if !strings.HasPrefix(r.Path, "/") || len(r.Path) > pathBytesMax {
		return fmt.Errorf("path %.80q: want an absolute path of at most %d bytes", r.Path, pathBytesMax)
	}
	for segment := range strings.SplitSeq(r.Path[1:], "/") {
		if segment == CoreInPath && op == OpPutAuthorities {
			continue
		}
		if strings.ContainsAny(segment, "{}") {
			return fmt.Errorf("path %q: %s stands for the core's thing name in the path of %s, and nothing else does", r.Path, CoreInPath, OpPutAuthorities)
		}
		if segment == "" || segment == "." || segment == ".." {
			return fmt.Errorf("path %q: segments must not be empty, %q or %q", r.Path, ".", "..")
		}
	}
	for i := range len(r.Path) {
		if c := r.Path[i]; c <= ' ' || c > '~' || strings.IndexByte("?#%\\\"", c) >= 0 {
			return fmt.Errorf("path %q: byte %d is %q, want plain printable ASCII without query or escapes", r.Path, i, c)
		}
	}
	return nil
}

// awsSuffixes are the domains of AWS's partitions: the public one, China, the European
// sovereign cloud and the isolated ones, with AWS's newer dual-stack names.
var awsSuffixes = []string{
	"amazonaws.com", "amazonaws.com.cn", "amazonaws.eu", "api.aws", "on.aws",
	"amazonwebservices.com", "amazonwebservices.com.cn", "amazonwebservices.eu",
	"c2s.ic.gov", "sc2s.sgov.gov", "csp.hci.ic.gov", "cloud.adc-e.uk",
}

// IsAWSHost says whether host (a name without port) belongs to AWS.
func IsAWSHost(host string) bool {
	host = strings.ToLower(strings.TrimRight(host, "."))
	for _, suffix := range awsSuffixes {
		if host == suffix || strings.HasSuffix(host, "."+suffix) {
			return true
		}
	}
	return false
}
