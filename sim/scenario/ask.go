package scenario

import (
	"errors"
	"fmt"

	"github.com/gatehouse-edge/gatehouse/messages"
)

type verify struct {
	Cert   alias  `key:"cert" need:"yes" doc:"which certificate"`
	Expect bool   `key:"expect" need:"yes" doc:"whether it is good"`
	Source source `key:"source" doc:"on whose word: cloud, local (what is stored), validity (it says itself that it is not valid now), component (the local authority made it), none (it cannot be read)"`
}

func (e *verify) run(p *play) ([]string, error) {
	_, problems, err := p.verify(e.Cert, e.Expect, e.Source)
	return problems, err
}

type session struct {
	Thing  thing   `key:"thing" need:"yes" doc:"the client id"`
	Cert   alias   `key:"cert" need:"yes" doc:"which certificate the client presented"`
	Expect outcome `key:"expect" need:"yes" doc:"ok, denied (InvalidCredential) or service-error"`
	Stay   bool    `key:"stay" doc:"the client stays connected: its session is not closed at once"`
}

func (e *session) run(p *play) ([]string, error) { return p.open(e) }

type connect struct {
	Thing        thing   `key:"thing" need:"yes" doc:"the client id"`
	Cert         alias   `key:"cert" need:"yes" doc:"which certificate the client presents"`
	ExpectVerify bool    `key:"expectVerify" need:"yes" doc:"whether verify says that it is good"`
	VerifySource source  `key:"verifySource" doc:"on whose word, as for verify"`
	Expect       outcome `key:"expect" need:"yes" doc:"ok, denied or service-error; denied if verify says no"`
	Stay         bool    `key:"stay" doc:"the client stays connected: its session is not closed at once"`
}

func (e *connect) run(p *play) ([]string, error) {
	valid, problems, err := p.verify(e.Cert, e.ExpectVerify, e.VerifySource)
	if err != nil {
		return problems, err
	}
	if !valid {
		return differs(problems, "connect", denied, e.Expect), nil
	}
	more, err := p.open(&session{Thing: e.Thing, Cert: e.Cert, Expect: e.Expect, Stay: e.Stay})
	return append(problems, more...), err
}

type closeSessions struct {
	Thing thing `key:"thing" need:"yes" doc:"which thing"`
}

func (e *closeSessions) run(p *play) ([]string, error) {
	for _, token := range p.stayed[e.Thing] {
		if err := p.world.CloseSession(token); err != nil {
			return nil, err
		}
	}
	delete(p.stayed, e.Thing)
	return nil, nil
}

type authorize struct {
	Thing     thing         `key:"thing" need:"yes" doc:"which thing"`
	Operation text          `key:"operation" need:"yes" doc:"such as mqtt:publish"`
	Resource  text          `key:"resource" need:"yes" doc:"such as mqtt:topic:things/ThingOne/t; the policy of every scenario lets a thing connect, and publish and subscribe below things/<its name>/"`
	Expect    authorization `key:"expect" need:"yes" doc:"allowed, denied (by the policy) or invalid-token (the session is no more, or what it rests on)"`
}

type authorization string

func (authorization) choices() []string {
	return []string{"allowed", "denied", "invalid-token", serviceError}
}

func (e *authorize) run(p *play) ([]string, error) {
	tokens := p.stayed[e.Thing]
	if len(tokens) == 0 {
		return nil, fmt.Errorf("%q never got a session that stayed: add \"stay\": true to its connect", e.Thing)
	}
	allowed, err := p.world.Authorize(tokens[len(tokens)-1], string(e.Operation), string(e.Resource))
	got := authorization("denied")
	switch refusal, refused := errors.AsType[*messages.Refusal](err); {
	case refused && refusal.Code == messages.RefusedInvalidToken:
		got = "invalid-token"
	case refused && refusal.Code == messages.RefusedService:
		got = serviceError
	case err != nil:
		return nil, err
	case allowed:
		got = "allowed"
	}
	return differs(nil, string(e.Operation)+" on "+string(e.Resource), got, e.Expect), nil
}

// verify asks whether a certificate is good, and compares.
func (p *play) verify(cert alias, expect bool, from source) (valid bool, problems []string, err error) {
	der, err := p.cert(cert)
	if err != nil {
		return false, nil, err
	}
	before := p.world.CloudCalls()
	v, err := p.world.Verify(der)
	if err != nil {
		return false, nil, fmt.Errorf("verify %s: %w", cert, err)
	}
	what := fmt.Sprintf("verify %s", cert)
	problems = differs(nil, what, v.Valid, expect)
	if len(problems) > 0 {
		problems[0] += ": " + v.Reason
	}
	return v.Valid, differs(problems, what+", source", sourceOf(v, p.world.CloudCalls() > before, from), from), nil
}

// sourceOf names on whose word v was said; want is what is hoped for, where several
// names would be true. Nothing is anybody's word if the cloud was asked besides.
func sourceOf(v messages.Verified, asked bool, want source) source {
	switch {
	case want == "":
		return ""
	case v.Source == messages.Source_SOURCE_CLOUD && asked:
		return "cloud"
	case v.Component != "" && !asked:
		return "component"
	case v.Source != messages.Source_SOURCE_LOCAL:
		return source(v.Source.String())
	case (want == "validity" || want == "none") && !asked && !v.Valid:
		return want
	default:
		return "local"
	}
}

// open asks for a session, and compares.
func (p *play) open(e *session) ([]string, error) {
	der, err := p.cert(e.Cert)
	if err != nil {
		return nil, err
	}
	s, err := p.world.Open(string(e.Thing), der)
	got := outcome(ok)
	switch refusal, refused := errors.AsType[*messages.Refusal](err); {
	case refused && refusal.Code == messages.RefusedInvalidCredential:
		got = denied
	case refused && refusal.Code == messages.RefusedService:
		got = serviceError
	case err != nil:
		return nil, fmt.Errorf("session of %q: %w", e.Thing, err)
	case e.Stay:
		p.stayed[e.Thing] = append(p.stayed[e.Thing], s.Token)
	default:
		if err := p.world.CloseSession(s.Token); err != nil {
			return nil, err
		}
	}
	problems := differs(nil, fmt.Sprintf("session of %q", e.Thing), got, e.Expect)
	if len(problems) > 0 && err != nil {
		problems[0] += ": " + err.Error()
	}
	return problems, nil
}

// differs adds a problem if got is not want.
func differs[T comparable](problems []string, what string, got, want T) []string {
	if got != want {
		problems = append(problems, fmt.Sprintf("%s: %v, want %v", what, got, want))
	}
	return problems
}
