package awsemu

import (
	"strings"

	"github.com/gatehouse-edge/gatehouse/cloudsync"
)

// Target is where an operation of the control planes lives.
type Target struct {
	Op           cloudsync.Operation
	Method, Path string // a "*" is a parameter
}

// Targets lists the operations of the control planes.
func Targets() (all []Target) {
	for _, r := range controlRoutes {
		all = append(all, Target{r.op, r.method, "/" + strings.Join(r.path, "/")})
	}
	return all
}
