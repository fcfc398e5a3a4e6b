package daemon

import (
	"context"
	"strings"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/projections"
)

// Explain answers an ExplainRequest.
func Explain(ctx context.Context, x *projections.Explainer, q ExplainRequest) (projections.Explanation, error) {
	if q.Operation != "" || q.Resource != "" {
		name, err := messages.ParseThingName(q.Thing)
		if err != nil {
			return projections.Explanation{}, messages.Refuse(messages.RefusedInvalidArguments, "%v", err)
		}
		return x.ExplainAction(ctx, name, q.Operation, q.Resource)
	}
	denied, refused := x.Views.LastDenied(func(e *messages.AccessDenied) bool {
		return (q.Thing == "" || e.Thing == q.Thing) &&
			(q.Certificate == "" || strings.HasPrefix(e.CertificateId, q.Certificate))
	})
	closed, ended := x.Views.LastClosed(q.Thing)
	switch {
	case ended && q.Certificate == "" && closed.Seq > denied.Seq:
		return x.ExplainClosed(ctx, closed)
	case refused:
		return x.ExplainDenied(ctx, denied)
	}
	return projections.Explanation{}, messages.Refuse(messages.RefusedInvalidArguments,
		"no refusal is on record for that; ask about an action: gatehouse explain THING OPERATION RESOURCE")
}
