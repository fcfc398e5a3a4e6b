package trace

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// Bounds of one trace, beside those of the Reader's pages. What is beyond is said.
const (
	certificatesMax = 10
	policiesMax     = 20 // of one certificate or group; AWS allows 10
	groupsMax       = 10
	aliasesMax      = 20
	searchedMax     = 50 // policies of the account that are looked through for one that would do
)

// SkewMax is how far a clock may be off before AWS refuses what it signed.
const SkewMax = 5 * time.Minute

const skewWarned = time.Minute

const assumeWithCertificate = "iot:AssumeRoleWithCertificate"

// Local is what this machine is configured with. Anything may be missing; then what it would
// be compared with is only shown.
type Local struct {
	Thing       messages.ThingName     // of the core
	Certificate messages.CertificateID // of the core's certificate, by its file
	Region      string
	RoleAlias   string
	// Greengrass, Data and Credentials are the endpoints: host, host:port or URL.
	Greengrass, Data, Credentials string
	// OwnVerifier says that devices are verified by AWS IoT's published operations, which need
	// neither the service role nor the data plane's permissions.
	OwnVerifier bool
}

// Config says what to trace, and by whom to read.
type Config struct {
	Reader Reader
	// Prober asks as the core. Nil: the endpoint is not asked, for the reason NoProbe.
	Prober  Prober
	NoProbe string
	Now     func() time.Time // this machine's clock
	// Clock reads first how it stands to the cloud's. An error means that AWS is not reached.
	// Nil: the Reader's answers say.
	Clock func(context.Context) (ClockReading, error)
	Local Local

	// Where to start: a thing, or a certificate. Neither: what Local says.
	Thing       messages.ThingName
	Certificate messages.CertificateID
	// Device says that the thing is a client device, which needs no role. Default: if it is
	// associated with the core.
	Device bool
}

type tracer struct {
	Config
	ctx      context.Context
	device   bool // the subject needs no role
	isDevice bool // it is associated with this core
	region   string
	account  string
	root     *Node
	probed   ProbeAnswer
	ahead    *time.Duration       // as Clock read it; nil: it did not
	ders     map[string][]byte    // of certificates, by id
	devices  []messages.ThingName // that are associated with the subject
	// undecided are those that hang on what is not known here; the endpoint may know.
	undecided []*Node
	grouped   held // by the groups of the thing
	private   bool // the certificate of the core is of a private authority
}

// Run traces. An error says that there is nothing to start from; all else is in the report.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	if cfg.Reader == nil || cfg.Now == nil {
		return nil, errors.New("trace: a reader and a clock are needed")
	}
	if cfg.Thing == "" && cfg.Certificate == "" {
		if cfg.Thing = cfg.Local.Thing; cfg.Thing == "" {
			cfg.Certificate = cfg.Local.Certificate
		}
	}
	t := &tracer{Config: cfg, ctx: ctx, region: cfg.Local.Region, ders: map[string][]byte{}}
	if cfg.Thing == "" && cfg.Certificate == "" {
		return nil, errors.New("trace: which thing or certificate? name one, or a configuration that does")
	}
	switch {
	case t.blind():
	case cfg.Thing != "":
		t.traceThing()
	default:
		t.traceCertificate()
	}
	r := &Report{Subject: t.root.label(), Region: t.region, Account: t.account, Root: t.root}
	r.conclude()
	return r, nil
}

// blind says whether AWS cannot be asked at all, and then why: it is not reached, or this
// machine's clock is so wrong that no server's certificate is valid by it.
func (t *tracer) blind() bool {
	if t.Clock == nil {
		return false
	}
	reading, err := t.Clock(t.ctx)
	if err == nil && !reading.Blind {
		t.ahead = &reading.Ahead
		return false
	}
	t.root = &Node{Kind: KindThing, Name: string(t.Thing), State: Note, Detail: "nothing can be asked before the clock is right"}
	if t.Thing == "" {
		t.root.Kind, t.root.Name = KindCertificate, string(t.Certificate)
	}
	if err == nil {
		t.ahead = &reading.Ahead
		t.root.add(t.clock())
		return true
	}
	t.root.State, t.root.Detail = Unknown, "AWS cannot be asked: "+err.Error()
	if own := string(t.Local.Certificate); own != "" && t.Local.RoleAlias != "" {
		certificate := &Node{Kind: KindCertificate, Name: own, State: Note, Detail: "this machine's"}
		certificate.add(t.probe(certificate, []*Node{{Kind: KindRoleAlias, Name: t.Local.RoleAlias}})...)
		t.root.add(certificate)
	}
	return true
}

// see takes region and account from an ARN, the first time.
func (t *tracer) see(arn string) {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) == 6 && t.account == "" && parts[4] != "" {
		t.account = parts[4]
		if t.region == "" {
			t.region = parts[3]
		}
	}
}

// arn names a resource of AWS IoT in the account.
func (t *tracer) arn(kind, name string) string {
	partition := "aws"
	switch {
	case strings.HasPrefix(t.region, "cn-"):
		partition = "aws-cn"
	case strings.HasPrefix(t.region, "us-gov-"):
		partition = "aws-us-gov"
	}
	return fmt.Sprintf("arn:%s:iot:%s:%s:%s/%s", partition, t.region, t.account, kind, name)
}

func (t *tracer) core() bool { return !t.device }

func (t *tracer) traceThing() {
	n := &Node{Kind: KindThing, Name: string(t.Thing), State: OK}
	t.root = n
	arn, err := t.Reader.Thing(t.ctx, t.Thing)
	switch {
	case isNotFound(err):
		n.fail(Broken, ThingUnknown, []string{aws("iot create-thing --thing-name %s", t.Thing)},
			"%s knows no thing of that name: check the name, the region and the account", t.where())
		n.add(t.clock())
		return
	case err != nil:
		n.unread(err)
	default:
		t.see(arn)
	}
	association := t.associations()
	t.device = t.Device || association != nil && association.Kind == KindAssociations && t.isDevice
	principals, err := t.Reader.Principals(t.ctx, t.Thing)
	if err != nil && !isNotFound(err) {
		n.add((&Node{Kind: KindCertificate, Name: "of the thing"}).unread(err))
	}
	ids := t.certificatesOf(n, principals)
	read := err == nil || isNotFound(err)
	if own := t.Local.Certificate; !read && own != "" && t.Thing == t.Local.Thing {
		ids = append(ids, own)
	}
	groups := t.groups(t.Thing)
	t.missing(n, ids, read)
	var chains []*Node
	for _, id := range ids {
		chains = append(chains, t.certificate(id, t.Thing))
	}
	t.weigh(ids, chains)
	n.add(chains...)
	n.add(groups...)
	t.around(n, association)
}

// certificatesOf reads which principals are certificates: others, such as Cognito identities,
// have no part in this.
func (t *tracer) certificatesOf(n *Node, principals []string) (ids []messages.CertificateID) {
	for _, p := range principals {
		parts := strings.SplitN(p, ":", 6)
		if len(parts) != 6 || !strings.HasPrefix(parts[5], "cert/") {
			continue
		}
		id, err := messages.ParseCertificateID(strings.TrimPrefix(parts[5], "cert/"))
		if err != nil {
			continue
		}
		t.see(p)
		ids = append(ids, id)
	}
	slices.Sort(ids)
	if len(ids) > certificatesMax {
		n.add(&Node{Kind: KindCertificate, Name: fmt.Sprintf("%d more", len(ids)-certificatesMax), State: Note, Detail: "not looked at; name one to trace it"})
		own := slices.Index(ids, t.Local.Certificate)
		if own >= certificatesMax {
			ids[0] = ids[own]
		}
		ids = ids[:certificatesMax]
	}
	return ids
}

// missing says that a certificate which should be attached to the thing is not.
func (t *tracer) missing(n *Node, ids []messages.CertificateID, read bool) {
	own := t.Local.Certificate
	switch {
	case !read:
	case t.Thing == t.Local.Thing && own != "" && !slices.Contains(ids, own):
		c := t.certificate(own, t.Thing)
		if c.State != Broken { // unknown to the account says more
			c.fail(Broken, ThingNotAttached, []string{aws("iot attach-thing-principal --thing-name %s --principal %s", t.Thing, t.arn("cert", string(own)))},
				"this machine's certificate is not attached to the thing")
		}
		n.add(c)
	case len(ids) == 0:
		n.fail(Broken, ThingNotAttached, []string{aws("iot attach-thing-principal --thing-name %s --principal CERTIFICATE_ARN", t.Thing)},
			"no certificate is attached to the thing")
	}
}

// weigh makes what is broken at a certificate that is not the core's only way a warning.
func (t *tracer) weigh(ids []messages.CertificateID, chains []*Node) {
	if own := slices.Index(ids, t.Local.Certificate); own >= 0 && t.Thing == t.Local.Thing {
		for i, c := range chains {
			if i != own {
				c.soften()
			}
		}
		return
	}
	whole := func(c *Node) bool { return c.worst() != Broken }
	if slices.ContainsFunc(chains, whole) {
		for _, c := range chains {
			c.soften()
		}
	}
}

func (t *tracer) traceCertificate() {
	t.device = t.Device
	n := t.certificateNode(t.Certificate)
	t.root = n
	if n.Fault == CertificateUnknown {
		n.add(t.clock())
		return
	}
	things, err := t.Reader.Things(t.ctx, t.arn("cert", string(t.Certificate)))
	var thing messages.ThingName
	own := t.Certificate == t.Local.Certificate
	switch {
	case err != nil:
		n.add((&Node{Kind: KindThing, Name: "of the certificate"}).unread(err))
	case len(things) == 0 || own && t.Local.Thing != "" && !slices.Contains(things, t.Local.Thing):
		name := "THING"
		if own && t.Local.Thing != "" {
			name = string(t.Local.Thing)
		}
		n.add((&Node{Kind: KindThing, Name: name}).fail(Broken, ThingNotAttached,
			[]string{aws("iot attach-thing-principal --thing-name %s --principal %s", name, t.arn("cert", string(t.Certificate)))},
			"the certificate is not attached to it"))
	}
	var association *Node
	for _, one := range things {
		n.add(&Node{Kind: KindThing, Name: string(one), State: OK, Detail: "the certificate is attached to it"})
		if thing == "" || one == t.Local.Thing {
			thing = one
		}
	}
	if t.Thing = thing; thing == "" && own {
		t.Thing = t.Local.Thing
	}
	if t.Thing != "" {
		association = t.associations()
		t.device = t.Device || t.isDevice
	}
	groups := t.groups(thing)
	t.chain(n, thing)
	n.add(groups...)
	t.around(n, association)
}

// around adds what is beside the way: endpoints, service role, client devices, clock.
func (t *tracer) around(n *Node, association *Node) {
	if t.core() {
		n.add(t.endpoints()...)
		n.add(t.serviceRole())
	}
	n.add(association, t.clock())
}

func (t *tracer) where() string {
	if t.region == "" {
		return "AWS IoT"
	}
	return "AWS IoT in " + t.region
}
