package cloudsync

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// Operation names an operation of the Greengrass data plane, as AWS spells it.
type Operation string

// The operations that ask about a client device (cloud spec 1.2).
const (
	OpVerifyIdentity    Operation = "VerifyClientDeviceIdentity"
	OpVerifyAssociation Operation = "VerifyClientDeviceIoTCertificateAssociation"
)

// Route is where an operation lives on the data plane's host.
type Route struct {
	Method string // POST or PUT
	Path   string // absolute, without query
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
}

// DefaultRoutes returns a copy of Gatehouse's own table, the one sim/awsemu serves.
func DefaultRoutes() Routes { return maps.Clone(defaultRoutes) }

// CheckRoutes says why the data plane at endpoint cannot be asked by routes, as NewDataPlane
// does, before there are files to reach it with.
func CheckRoutes(endpoint string, routes Routes) error {
	base, err := parseEndpoint(endpoint)
	if err != nil {
		return err
	}
	_, err = routesFor(base.Hostname(), routes)
	return err
}

// routesFor completes the operator's routes with Gatehouse's own. Against one of AWS's
// hosts nothing is completed: sending devices' certificates to a guessed path would at
// best fail, and at worst be answered by something that is not the operation meant.
func routesFor(host string, given Routes) (Routes, error) {
	routes := DefaultRoutes()
	for op, route := range given {
		if _, known := routes[op]; !known {
			return nil, fmt.Errorf("route of %q: no such operation: want one of %v", op, slices.Sorted(maps.Keys(routes)))
		}
		if err := route.check(); err != nil {
			return nil, fmt.Errorf("route of %s: %w", op, err)
		}
		routes[op] = route
	}
	if !IsAWSHost(host) {
		return routes, nil
	}
	for _, op := range slices.Sorted(maps.Keys(routes)) {
		if _, set := given[op]; !set {
			return nil, fmt.Errorf("%w: %s on %s: set its method and path in cloud.operations, or ask AWS by published operations with cloud.verifier: iot", ErrUnpublishedPath, op, host)
		}
	}
	return routes, nil
}

const pathBytesMax = 256

func (r Route) check() error {
	if r.Method != http.MethodPost && r.Method != http.MethodPut {
		return fmt.Errorf("method %q: want POST or PUT", r.Method)
	}
	if !strings.HasPrefix(r.Path, "/") || len(r.Path) > pathBytesMax {
		return fmt.Errorf("path %.80q: want an absolute path of at most %d bytes", r.Path, pathBytesMax)
	}
	for segment := range strings.SplitSeq(r.Path[1:], "/") {
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
