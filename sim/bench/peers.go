package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/casbin/casbin/v3"
	"github.com/casbin/casbin/v3/model"
	cedar "github.com/cedar-policy/cedar-go"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// prefixOf returns what a pattern begins with if it ends with '*'.
func prefixOf(pattern string) (prefix string, wild bool) { return strings.CutSuffix(pattern, "*") }

// cedarEngine writes each statement as a permit. Exact topics are resources of the scope,
// prefixes are "like" conditions; the requests and entities are made beforehand.
func cedarEngine(_ context.Context, list []statement, thing messages.ThingName, asked []question) (engine, error) {
	var text strings.Builder
	for _, s := range list {
		resource := fill(s.pattern, thing)
		if _, wild := prefixOf(resource); wild {
			fmt.Fprintf(&text, "permit(principal == Device::%q, action == Action::%q, resource) when { context.resource like %q };\n", thing, s.operation, resource)
		} else {
			fmt.Fprintf(&text, "permit(principal == Device::%q, action == Action::%q, resource == Topic::%q);\n", thing, s.operation, resource)
		}
	}
	policies, err := cedar.NewPolicySetFromBytes("bench.cedar", []byte(text.String()))
	if err != nil {
		return engine{}, fmt.Errorf("cedar: %w", err)
	}
	requests := make([]cedar.Request, len(asked))
	for i, q := range asked {
		requests[i] = cedar.Request{
			Principal: cedar.NewEntityUID("Device", cedar.String(thing)),
			Action:    cedar.NewEntityUID("Action", cedar.String(q.operation)),
			Resource:  cedar.NewEntityUID("Topic", cedar.String(q.resource)),
			Context:   cedar.NewRecord(cedar.RecordMap{"resource": cedar.String(q.resource)}),
		}
	}
	entities := cedar.EntityMap{}
	return engine{"cedar", func(i int) (bool, error) {
		decision, diagnostic := cedar.Authorize(policies, entities, requests[i])
		if len(diagnostic.Errors) > 0 {
			return false, fmt.Errorf("cedar: %v", diagnostic.Errors[0])
		}
		return decision == cedar.Allow, nil
	}}, nil
}

// casbinModel is casbin's model of access by name, with its own matching of paths, in
// which '*' at the end stands for the rest.
const casbinModel = `
[request_definition]
r = sub, obj, act
[policy_definition]
p = sub, obj, act
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = r.act == p.act && r.sub == p.sub && keyMatch(r.obj, p.obj)
`

// casbinEngine writes each statement as a policy line, without the cache of answers that
// casbin also has: it is the decision that is compared.
func casbinEngine(_ context.Context, list []statement, thing messages.ThingName, asked []question) (engine, error) {
	m, err := model.NewModelFromString(casbinModel)
	if err != nil {
		return engine{}, fmt.Errorf("casbin: %w", err)
	}
	enforcer, err := casbin.NewEnforcer(m)
	if err != nil {
		return engine{}, fmt.Errorf("casbin: %w", err)
	}
	lines := make([][]string, len(list))
	for i, s := range list {
		lines[i] = []string{string(thing), fill(s.pattern, thing), s.operation}
	}
	if added, err := enforcer.AddPolicies(lines); err != nil || !added {
		return engine{}, fmt.Errorf("casbin: policies added is %t: %w", added, err)
	}
	requests := make([][]any, len(asked))
	for i, q := range asked {
		requests[i] = []any{string(thing), q.resource, q.operation}
	}
	return engine{"casbin", func(i int) (bool, error) { return enforcer.Enforce(requests[i]...) }}, nil
}

// opaEngine writes each statement as a rule that OPA's index can find: equality for exact
// topics, startswith for prefixes. The query is prepared, the inputs are parsed.
func opaEngine(ctx context.Context, list []statement, thing messages.ThingName, asked []question) (engine, error) {
	var text strings.Builder
	text.WriteString("package bench\n\ndefault allow := false\n\n")
	for _, s := range list {
		resource := fill(s.pattern, thing)
		condition := fmt.Sprintf("input.resource == %q", resource)
		if prefix, wild := prefixOf(resource); wild {
			condition = fmt.Sprintf("startswith(input.resource, %q)", prefix)
		}
		fmt.Fprintf(&text, "allow if {\n\tinput.thing == %q\n\tinput.operation == %q\n\t%s\n}\n\n", thing, s.operation, condition)
	}
	query, err := rego.New(rego.Query("data.bench.allow"), rego.Module("bench.rego", text.String())).PrepareForEval(ctx)
	if err != nil {
		return engine{}, fmt.Errorf("opa: %w", err)
	}
	inputs := make([]rego.EvalOption, len(asked))
	for i, q := range asked {
		inputs[i] = rego.EvalParsedInput(ast.NewObject(
			ast.Item(ast.StringTerm("thing"), ast.StringTerm(string(thing))),
			ast.Item(ast.StringTerm("operation"), ast.StringTerm(q.operation)),
			ast.Item(ast.StringTerm("resource"), ast.StringTerm(q.resource))))
	}
	return engine{"opa", func(i int) (bool, error) {
		results, err := query.Eval(ctx, inputs[i])
		if err != nil {
			return false, fmt.Errorf("opa: %w", err)
		}
		return results.Allowed(), nil
	}}, nil
}
