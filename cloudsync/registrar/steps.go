package registrar

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/registration"
)

// job is one try at one candidate. An error of a step means that there is no outcome yet.
type job struct {
	r   *Registrar
	ctx context.Context
	c   registration.Candidate
	at  time.Time
	// mine: this registrar has registered the certificate, as INACTIVE.
	mine bool
	// activating: its answer to being made ACTIVE may have been lost.
	activating bool
	// begun: it may be attached by this registrar already.
	begun bool

	known   Certificate
	leaf    *x509.Certificate
	verdict registration.Verdict
}

// run takes a candidate through the steps.
func (j *job) run() (registration.Outcome, error) {
	if err := j.find(); err != nil {
		return registration.Outcome{}, err
	}
	out, err := j.judge()
	if err != nil || out != nil {
		return deref(out), err
	}
	if j.known.Status == StatusActive {
		return j.active()
	}
	// From here on the cloud is changed: what becomes of it must be found out even after a crash.
	if err := j.r.begin(j.c, j.mine, j.at); err != nil {
		return registration.Outcome{}, err
	}
	for _, step := range []func() (*registration.Outcome, error){j.thing, j.group, j.policy, j.attach, j.alone, j.associate} {
		if out, err := step(); err != nil || out != nil {
			return deref(out), err
		}
	}
	if err := j.r.activate(j.c.Certificate); err != nil {
		return registration.Outcome{}, err
	}
	if err := j.call(func() error { return j.r.cfg.Cloud.SetStatus(j.ctx, j.c.Certificate, StatusActive) }); err != nil {
		return registration.Outcome{}, fmt.Errorf("activate: %w", err)
	}
	return j.accepted("registered"), nil
}

func deref(o *registration.Outcome) registration.Outcome {
	if o == nil {
		return registration.Outcome{}
	}
	return *o
}

func (j *job) denied(format string, args ...any) *registration.Outcome {
	return &registration.Outcome{Status: registration.Denied, Thing: j.verdict.Plan.Thing, Rule: j.verdict.Rule, Reason: fmt.Sprintf(format, args...)}
}

func (j *job) accepted(reason string) registration.Outcome {
	return registration.Outcome{Status: registration.Accepted, Thing: j.verdict.Plan.Thing, Rule: j.verdict.Rule, Reason: reason}
}

// call makes a request, at the registrar's pace.
func (j *job) call(f func() error) error {
	if err := j.r.pace(j.ctx); err != nil {
		return err
	}
	return f()
}

// find gets the cloud's word about the certificate, and registers what the edge has brought.
func (j *job) find() error {
	describe := func() error {
		return j.call(func() (err error) {
			j.known, err = j.r.cfg.Cloud.Certificate(j.ctx, j.c.Certificate)
			return err
		})
	}
	err := describe()
	if errors.Is(err, ErrNotThere) && j.c.DER != nil {
		if err = j.register(); err == nil {
			err = describe()
		}
	}
	if err != nil {
		return fmt.Errorf("describe the certificate: %w", err)
	}
	if messages.CertificateIDOf(j.known.DER) != j.c.Certificate {
		return &Problem{Class: messages.FailureNotService, Detail: "describe the certificate: the answer is about another one"}
	}
	return nil
}

// register makes a certificate known that only the edge knows. It was judged when it came; it
// is judged again.
func (j *job) register() error {
	leaf, err := x509.ParseCertificate(j.c.DER)
	authority := j.r.cfg.Authorities.Find(j.c.Authority)
	if err != nil || authority == nil {
		return &Problem{Final: true, Detail: "the certificate, or its authority, is none to register"}
	}
	if v, _ := j.r.judge(leaf, authority, j.c, j.at); !v.Allowed {
		return &Problem{Final: true, Detail: "the rules deny it: " + v.Reason}
	}
	j.mine = true
	if err := j.r.begin(j.c, true, j.at); err != nil {
		return err
	}
	err = j.call(func() error { return j.r.cfg.Cloud.Register(j.ctx, j.c.DER, authority.Raw) })
	if errors.Is(err, ErrThere) { // since it was asked for: by its own connection, or another core
		return nil
	}
	return err
}

// judge says no where that can be said; nil: the candidate goes on.
func (j *job) judge() (*registration.Outcome, error) {
	switch status := j.known.Status; {
	case status == StatusInactive && j.mine && j.activating && !j.known.Untouched:
		return nil, &Problem{Final: true, Detail: "its certificate is INACTIVE, and was changed since it was registered: if nobody has deactivated it, retry"}
	case status == StatusActive, status == StatusPending, status == StatusInactive && j.mine:
	default:
		return j.denied("its certificate is %s in the cloud: whoever set that has decided", status), nil
	}
	if j.c.Authority != "" && j.known.Authority != j.c.Authority {
		return j.denied("it is registered under another authority than it came by"), nil
	}
	j.c.Authority = j.known.Authority
	authority := j.r.cfg.Authorities.Find(j.known.Authority)
	if authority == nil {
		return j.denied("it is registered under no authority whose devices register here"), nil
	}
	var err error
	if j.leaf, err = x509.ParseCertificate(j.known.DER); err != nil {
		return j.denied("its certificate cannot be read"), nil
	}
	if j.at.Before(j.leaf.NotBefore) || j.at.Before(authority.NotBefore) { // or the clock is behind: that decides nothing
		return nil, &Problem{Detail: "its certificate, or the authority's, is not valid yet by this machine's clock"}
	}
	var judged bool
	if j.verdict, judged = j.r.judge(j.leaf, authority, j.c, j.at); !j.verdict.Allowed {
		return j.refuse(judged)
	}
	return nil, nil
}

// refuse tells the cloud of a no, if the operator wants that. Only what the rules say no to is
// told; a date or a signature is for the cloud itself to judge.
func (j *job) refuse(judged bool) (*registration.Outcome, error) {
	status := map[string]string{registration.DeniedInactivate: StatusInactive, registration.DeniedRevoke: StatusRevoked}[j.r.cfg.Rules.OnDenied()]
	if status != "" && judged && j.known.Status == StatusPending {
		if err := j.call(func() error { return j.r.cfg.Cloud.SetStatus(j.ctx, j.c.Certificate, status) }); err != nil {
			return nil, fmt.Errorf("tell the cloud that it is denied: %w", err)
		}
	}
	return j.denied("%s", j.verdict.Reason), nil
}

// active looks at a certificate that is ACTIVE already, and changes nothing: it was registered
// before, here or elsewhere, or somebody has made it so by hand.
func (j *job) active() (registration.Outcome, error) {
	principals, err := j.principals()
	if err != nil && !errors.Is(err, ErrNotThere) {
		return registration.Outcome{}, err
	}
	if slices.Contains(principals, j.known.ARN) {
		return j.accepted("registered before"), nil
	}
	return *j.denied("its certificate is ACTIVE and not attached to %s: somebody else has registered it", j.verdict.Plan.Thing), nil
}

func (j *job) principals() (list []string, err error) {
	err = j.call(func() (err error) {
		list, err = j.r.cfg.Cloud.Principals(j.ctx, j.verdict.Plan.Thing)
		return err
	})
	if err != nil {
		err = fmt.Errorf("list what thing %s is attached to: %w", j.verdict.Plan.Thing, err)
	}
	return list, err
}

// thing makes the thing, unless it is another certificate's.
func (j *job) thing() (*registration.Outcome, error) {
	principals, err := j.principals()
	if err == nil {
		return j.taken(principals)
	}
	if !errors.Is(err, ErrNotThere) {
		return nil, err
	}
	err = j.call(func() error { return j.r.cfg.Cloud.CreateThing(j.ctx, j.verdict.Plan) })
	if errors.Is(err, ErrThere) { // since it was asked for
		if principals, err = j.principals(); err == nil {
			return j.taken(principals)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("create thing %s: %w", j.verdict.Plan.Thing, err)
	}
	return nil, nil
}

// conflict is the no to a name that belongs to another certificate. Other principals, such as
// Amazon Cognito identities, belong to people's applications.
func (j *job) conflict(principals []string) *registration.Outcome {
	if j.verdict.Plan.Takeover {
		return nil
	}
	for _, p := range principals {
		if p != j.known.ARN && strings.HasPrefix(p, "arn:") {
			return j.denied("thing %s belongs to another certificate, and the rule lets none join it (thing.takeover)", j.verdict.Plan.Thing)
		}
	}
	return nil
}

// taken is conflict. What this registrar has attached, at a former try, does not stay: the
// certificates of one name would keep out each other for ever.
func (j *job) taken(principals []string) (*registration.Outcome, error) {
	out := j.conflict(principals)
	if out == nil || !j.begun || !slices.Contains(principals, j.known.ARN) {
		return out, nil
	}
	if err := j.call(func() error { return j.r.cfg.Cloud.DetachThing(j.ctx, j.verdict.Plan.Thing, j.known.ARN) }); err != nil {
		return nil, fmt.Errorf("detach from thing %s: %w", j.verdict.Plan.Thing, err)
	}
	return out, nil
}

func (j *job) group() (*registration.Outcome, error) {
	plan := j.verdict.Plan
	if plan.Group == "" {
		return nil, nil
	}
	if err := j.call(func() error { return j.r.cfg.Cloud.AddToGroup(j.ctx, plan.Thing, plan.Group) }); err != nil {
		return nil, fmt.Errorf("add to thing group %s: %w", plan.Group, err)
	}
	return nil, nil
}

// policy finds the plan's policy as the plan has it, or makes it, and attaches it. One that is
// another is left as it is: who wrote it may have meant it.
func (j *job) policy() (*registration.Outcome, error) {
	plan := j.verdict.Plan
	if plan.PolicyName == "" {
		return nil, nil
	}
	if plan.PolicyDocument != "" {
		if err := j.havePolicy(plan.PolicyName, plan.PolicyDocument, true); err != nil {
			return nil, err
		}
	}
	if err := j.call(func() error { return j.r.cfg.Cloud.AttachPolicy(j.ctx, plan.PolicyName, j.known.ARN) }); err != nil {
		return nil, fmt.Errorf("attach policy %s: %w", plan.PolicyName, err)
	}
	return nil, nil
}

func (j *job) havePolicy(name, document string, create bool) error {
	var found string
	err := j.call(func() (err error) {
		found, err = j.r.cfg.Cloud.Policy(j.ctx, name)
		return err
	})
	switch {
	case err == nil && registration.SamePolicy(found, document):
		return nil
	case err == nil:
		return &Problem{Final: true, Detail: fmt.Sprintf("policy %s exists with another document, and is left as it is: change it, or the rule, or the name", name)}
	case !errors.Is(err, ErrNotThere) || !create:
		return fmt.Errorf("get policy %s: %w", name, err)
	}
	err = j.call(func() error { return j.r.cfg.Cloud.CreatePolicy(j.ctx, name, document) })
	if errors.Is(err, ErrThere) { // since it was asked for
		return j.havePolicy(name, document, false)
	}
	if err != nil {
		return fmt.Errorf("create policy %s: %w", name, err)
	}
	return nil
}

func (j *job) attach() (*registration.Outcome, error) {
	if err := j.call(func() error { return j.r.cfg.Cloud.AttachThing(j.ctx, j.verdict.Plan.Thing, j.known.ARN) }); err != nil {
		return nil, fmt.Errorf("attach to thing %s: %w", j.verdict.Plan.Thing, err)
	}
	return nil, nil
}

// alone looks once more, now that everybody can see this certificate at the thing: of two
// that came for one name at the same time, by two cores, none stays.
func (j *job) alone() (*registration.Outcome, error) {
	if j.verdict.Plan.Takeover {
		return nil, nil
	}
	principals, err := j.principals()
	if err != nil {
		return nil, err
	}
	j.begun = true
	return j.taken(principals)
}

func (j *job) associate() (*registration.Outcome, error) {
	if !j.verdict.Plan.Associate {
		return nil, nil
	}
	if err := j.call(func() error { return j.r.cfg.Cloud.Associate(j.ctx, j.verdict.Plan.Thing) }); err != nil {
		return nil, fmt.Errorf("associate thing %s with the core: %w", j.verdict.Plan.Thing, err)
	}
	return nil, nil
}
