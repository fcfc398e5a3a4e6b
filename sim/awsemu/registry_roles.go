package awsemu

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-edge/gatehouse/cloudsync/iampolicy"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// IAM's part of the registry: roles, managed policies, and IoT's role aliases, which
// point to roles (cloud spec 2). Entities never change in place: a change puts another in
// the place of one.

// Bounds of IAM's entities, AWS's own where it has some.
const (
	rolesMax          = 1000
	managedMax        = 1500
	versionsMax       = 5 // of a managed policy
	attachedMax       = 10
	trustCharsMax     = 2048 // without white space, as are those below
	inlineCharsMax    = 10_240
	managedCharsMax   = 6144
	sessionMin        = time.Hour
	sessionMax        = 12 * time.Hour
	iamDescriptionMax = 1000
	aliasesMax        = 100_000
	aliasDurationMin  = 900
	aliasDurationMax  = 43_200
	aliasDurationUsed = 3600 // without another
)

// identities are IAM's entities and the role aliases.
type identities struct {
	roles   map[string]*role          // by name
	managed map[string]*managedPolicy // by ARN
	aliases map[string]*roleAlias     // by name
}

func newIdentities() identities {
	return identities{roles: map[string]*role{}, managed: map[string]*managedPolicy{}, aliases: map[string]*roleAlias{}}
}

// policyText is a policy document with what it was read as.
type policyText struct {
	text string
	read *iampolicy.Document
}

type role struct {
	name, id, path, description string
	created                     time.Time
	session                     time.Duration // the longest
	trust                       policyText
	inline                      map[string]policyText // by name
	attached                    []string              // ARNs of managed policies, sorted
}

func (r *role) arn() string { return roleARN(r.path, r.name) }

func roleARN(path, name string) string {
	return "arn:aws:iam::" + AccountID + ":role" + path + name
}

// clone is a copy to change.
func (r *role) clone() *role {
	c := *r
	c.inline, c.attached = maps.Clone(r.inline), slices.Clone(r.attached)
	return &c
}

type managedPolicy struct {
	name, id, path, description string
	created, updated            time.Time
	versions                    []managedVersion // oldest first
	inForce                     string           // id of the default version
	last                        int              // number of the newest version there ever was
}

type managedVersion struct {
	id      string
	created time.Time
	policyText
}

func (p *managedPolicy) arn() string {
	return "arn:aws:iam::" + AccountID + ":policy" + p.path + p.name
}

func (p *managedPolicy) clone() *managedPolicy {
	c := *p
	c.versions = slices.Clone(p.versions)
	return &c
}

// version finds one; nil if it is not there.
func (p *managedPolicy) version(id string) *managedVersion {
	if i := slices.IndexFunc(p.versions, func(v managedVersion) bool { return v.id == id }); i >= 0 {
		return &p.versions[i]
	}
	return nil
}

type roleAlias struct {
	name, role        string // role is its ARN, and need not exist
	duration          int    // of credentials, seconds
	created, modified time.Time
}

// errTooLong is wrapped where a document has more characters than AWS takes.
var errTooLong = errors.New("more characters than there may be")

// readPolicy reads a document of at most max characters.
func readPolicy(text string, max int, parse func(string) (*iampolicy.Document, error)) (policyText, error) {
	read, err := parse(text)
	if err != nil {
		return policyText{}, err
	}
	if n := charactersOf(text); n > max {
		return policyText{}, fmt.Errorf("%d characters, at most %d: %w", n, max, errTooLong)
	}
	return policyText{text, read}, nil
}

// charactersOf counts as AWS does: without white space.
func charactersOf(text string) (n int) {
	for _, r := range text {
		if !strings.ContainsRune(" \t\r\n", r) {
			n++
		}
	}
	return n
}

// isIAMName: 1 to max of IAM's characters for names.
func isIAMName(s string, max int) bool {
	return s != "" && len(s) <= max && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("_+=,.@-", r)
	})
}

// isIAMPath: "/", or names of visible characters between slashes.
func isIAMPath(s string) bool {
	return len(s) <= 512 && strings.HasPrefix(s, "/") && strings.HasSuffix(s, "/") && !strings.ContainsFunc(s, func(r rune) bool { return r < '!' || r > '~' || r == '*' || r == '?' })
}

// isAliasName: 1 to 128 of [\w=,@-] (cloud spec 2).
func isAliasName(s string) bool {
	return isIAMName(s, 128) && !strings.ContainsAny(s, "+.")
}

// Role is a role as who calls this package makes one.
type Role struct {
	// Name is shown in the ARNs of the role and of its sessions: 1 to 64 of [\w+=,.@-].
	Name string
	// Trust is the trust policy's document. Empty: nobody is trusted.
	Trust string
	// MaxSession is how long credentials may last, an hour (the default) to 12.
	MaxSession time.Duration
	// Policies are the documents of what it may do, by name.
	Policies map[string]string
}

// nobody is a trust policy that trusts nobody.
const nobody = `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":"sts:AssumeRole"}]}`

// read checks a role and reads its documents.
func (r Role) read() (*role, error) {
	made := &role{name: r.Name, id: iamID("AROA"), path: "/", session: r.MaxSession, inline: map[string]policyText{}}
	if made.session == 0 {
		made.session = sessionMin
	}
	if !isIAMName(r.Name, 64) || made.session < sessionMin || made.session > sessionMax {
		return nil, fmt.Errorf("role %.64q: want 1 to 64 of [A-Za-z0-9_+=,.@-], and sessions of %v to %v", r.Name, sessionMin, sessionMax)
	}
	text := r.Trust
	if text == "" {
		text = nobody
	}
	var err error
	if made.trust, err = readPolicy(text, trustCharsMax, iampolicy.ParseTrust); err != nil {
		return nil, fmt.Errorf("role %s: trust policy: %w", r.Name, err)
	}
	for name, text := range r.Policies {
		if made.inline[name], err = readPolicy(text, inlineCharsMax, iampolicy.ParseIdentity); err != nil || !isIAMName(name, 128) {
			return nil, fmt.Errorf("role %s: policy %.128q: %w", r.Name, name, errors.Join(err, checkName(name)))
		}
	}
	return made, nil
}

func checkName(name string) error {
	if !isIAMName(name, 128) {
		return errors.New("a name is 1 to 128 of [A-Za-z0-9_+=,.@-]")
	}
	return nil
}

// AddRole makes a role of the account, from at on, with ErrExists if there is one of its
// name.
func (r *Registry) AddRole(at time.Time, made Role) error {
	return r.Update(func(b *Batch) error { return b.AddRole(at, made) })
}

// AddRole is Registry.AddRole.
func (b *Batch) AddRole(at time.Time, made Role) error {
	added, err := made.read()
	if err != nil {
		return err
	}
	added.created = toSecond(at)
	return b.addRole(added)
}

func (b *Batch) addRole(added *role) error {
	for name := range b.r.roles {
		if strings.EqualFold(name, added.name) { // IAM's names differ in more than case
			return fmt.Errorf("role %s: %w", name, ErrExists)
		}
	}
	if len(b.r.roles) >= rolesMax {
		return fmt.Errorf("role %s: there are %d already", added.name, rolesMax)
	}
	put(b, b.r.roles, added.name, added)
	return nil
}

// AddRoleAlias makes a role alias, from at on, whose credentials last for duration: 15
// minutes to 12 hours, an hour if it is 0. The role need not be there.
func (r *Registry) AddRoleAlias(at time.Time, name, roleARN string, duration time.Duration) error {
	return r.Update(func(b *Batch) error { return b.AddRoleAlias(at, name, roleARN, duration) })
}

// AddRoleAlias is Registry.AddRoleAlias.
func (b *Batch) AddRoleAlias(at time.Time, name, roleARN string, duration time.Duration) error {
	if duration == 0 {
		duration = aliasDurationUsed * time.Second
	}
	at = toSecond(at)
	return b.addAlias(&roleAlias{name: name, role: roleARN, duration: int(duration / time.Second), created: at, modified: at})
}

func (b *Batch) addAlias(a *roleAlias) error {
	switch {
	case !isAliasName(a.name):
		return fmt.Errorf("role alias %.128q: want 1 to 128 of [A-Za-z0-9_=,@-]", a.name)
	case !isRoleARN(a.role):
		return fmt.Errorf("role alias %s: %.200q is not a role's ARN", a.name, a.role)
	case a.duration < aliasDurationMin || a.duration > aliasDurationMax:
		return fmt.Errorf("role alias %s: credentials for %d s, want %d to %d", a.name, a.duration, aliasDurationMin, aliasDurationMax)
	case b.r.aliases[a.name] != nil:
		return fmt.Errorf("role alias %s: %w", a.name, ErrExists)
	case len(b.r.aliases) >= aliasesMax:
		return fmt.Errorf("role alias %s: there are %d already", a.name, aliasesMax)
	}
	put(b, b.r.aliases, a.name, a)
	return nil
}

// TokenExchangeAlias is the alias of TokenExchangeRole.
const TokenExchangeAlias = "GatehouseTokenExchangeRoleAlias"

// tokenExchangePolicy is the IoT policy that lets a core's certificate assume the role,
// named as by AWS's installer.
const tokenExchangePolicy = "GreengrassTESCertificatePolicy" + TokenExchangeAlias

// AddTokenExchange makes what AWS's installer makes for the token exchange of cores, from
// at on: TokenExchangeRole, its alias, and the policy that lets the cores' certificates
// assume it. It does so in an account without roles and aliases: elsewhere all stays as
// somebody has left it.
func (b *Batch) AddTokenExchange(at time.Time, cores ...messages.CertificateID) error {
	if len(b.r.roles) > 0 || len(b.r.aliases) > 0 {
		return nil
	}
	may := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:AssumeRoleWithCertificate","Resource":"` + RoleAliasARN(TokenExchangeAlias) + `"}]}`
	err := errors.Join(b.AddRole(at, TokenExchangeRole), b.AddRoleAlias(at, TokenExchangeAlias, roleARN("/", TokenExchangeRole.Name), 0),
		b.EnsurePolicy(tokenExchangePolicy, may, at))
	for _, core := range cores {
		err = errors.Join(err, b.AttachPolicy(tokenExchangePolicy, CertificateARN(core)))
	}
	return err
}

// isRoleARN says whether s is the ARN of a role of some account.
func isRoleARN(s string) bool {
	rest, ok := strings.CutPrefix(s, "arn:aws:iam::")
	account, path, found := strings.Cut(rest, ":role/")
	i := strings.LastIndexByte(path, '/')
	return ok && found && len(account) == len(AccountID) && strings.Trim(account, "0123456789") == "" && isIAMName(path[i+1:], 64) && isIAMPath("/"+path[:i+1])
}

// toSecond is a time as IAM keeps it.
func toSecond(at time.Time) time.Time { return at.UTC().Truncate(time.Second) }

// roleOf returns the role with an ARN; nil if there is none.
func (r *Registry) roleOf(arn string) *role {
	r.mu.RLock()
	defer r.mu.RUnlock()
	found := r.roles[arn[strings.LastIndexByte(arn, '/')+1:]]
	if found == nil || found.arn() != arn {
		return nil
	}
	return found
}

func (r *Registry) alias(name string) (roleAlias, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if a := r.aliases[name]; a != nil {
		return *a, true
	}
	return roleAlias{}, false
}

// permissions are the documents of what the role with an id may do now; none if it is
// gone, also if there is another of its name since.
func (r *Registry) permissions(name, id string) []*iampolicy.Document {
	r.mu.RLock()
	defer r.mu.RUnlock()
	found := r.roles[name]
	if found == nil || found.id != id {
		return nil
	}
	var all []*iampolicy.Document
	for _, p := range found.inline {
		all = append(all, p.read)
	}
	for _, arn := range found.attached {
		p := r.managed[arn]
		all = append(all, p.version(p.inForce).read)
	}
	return all
}
