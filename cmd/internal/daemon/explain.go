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
	denied, ok := x.Views.LastDenied(func(e *messages.AccessDenied) bool {
		return (q.Thing == "" || e.Thing == q.Thing) &&
			(q.Certificate == "" || strings.HasPrefix(e.CertificateId, q.Certificate))
	})
	if !ok {
		return projections.Explanation{}, messages.Refuse(messages.RefusedInvalidArguments,
			"no refusal is on record for that; ask about an action: gatehouse explain THING OPERATION RESOURCE")
	}
	return x.ExplainDenied(ctx, denied)
}
