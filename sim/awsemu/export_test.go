package awsemu

import (
	"strings"

	"github.com/gatehouse-edge/gatehouse/cloudsync"
)

// Target is where an operation of the control planes lives.
type Target struct {
	Op           cloudsync.Operation
	Method, Path string // a "*" is a parameter
	Form         string // of a query service: what it is asked for
}

// Targets lists the operations of the control planes.
func Targets() (all []Target) {
	for _, r := range controlRoutes {
		all = append(all, Target{r.op, r.method, "/" + strings.Join(r.path, "/"), ""})
	}
	for _, q := range queryRoutes {
		_, action, _ := strings.Cut(string(q.op), ":")
		all = append(all, Target{q.op, "POST", "/", "Action=" + action + "&Version=" + q.service.version})
	}
	return all
}
