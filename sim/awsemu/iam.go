package awsemu

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-edge/gatehouse/cloudsync/iampolicy"
)

// IAM: roles with their policies, as far as a core's role needs. What IAM knows beside
// (users, groups, tags, permissions boundaries) is not emulated, and a request that wants
// it is refused rather than half obeyed.

const (
	iamPage    = 100 // of a listing without MaxItems
	iamPageMax = 1000
)

var iamRoutes = []queryRoute{
	{"iam:CreateRole", iam, newARN("RoleName", roleARN), "", (*Emulator).createRole},
	{"iam:GetRole", iam, roleARNIn, "", (*Emulator).getRole},
	{"iam:ListRoles", iam, newARN("PathPrefix", func(prefix, _ string) string { return roleARN(prefix, "") }), "PathPrefix", (*Emulator).listRoles},
	{"iam:UpdateRole", iam, roleARNIn, "", (*Emulator).updateRole},
	{"iam:UpdateAssumeRolePolicy", iam, roleARNIn, "", (*Emulator).updateAssumeRolePolicy},
	{"iam:DeleteRole", iam, roleARNIn, "", (*Emulator).deleteRole},
	{"iam:PutRolePolicy", iam, roleARNIn, "", (*Emulator).putRolePolicy},
	{"iam:GetRolePolicy", iam, roleARNIn, "", (*Emulator).getRolePolicy},
	{"iam:ListRolePolicies", iam, roleARNIn, "RoleName", (*Emulator).listRolePolicies},
	{"iam:DeleteRolePolicy", iam, roleARNIn, "", (*Emulator).deleteRolePolicy},
	{"iam:AttachRolePolicy", iam, roleARNIn, "", (*Emulator).attachRolePolicy},
	{"iam:DetachRolePolicy", iam, roleARNIn, "", (*Emulator).detachRolePolicy},
	{"iam:ListAttachedRolePolicies", iam, roleARNIn, "RoleName", (*Emulator).listAttachedRolePolicies},
	{"iam:CreatePolicy", iam, newARN("PolicyName", managedARN), "", (*Emulator).createManaged},
	{"iam:GetPolicy", iam, policyARNIn, "", (*Emulator).getManaged},
	{"iam:ListPolicies", iam, func(*Emulator, url.Values) string { return "*" }, "PathPrefix", (*Emulator).listManaged},
	{"iam:DeletePolicy", iam, policyARNIn, "", (*Emulator).deleteManaged},
	{"iam:CreatePolicyVersion", iam, policyARNIn, "", (*Emulator).createManagedVersion},
	{"iam:GetPolicyVersion", iam, policyARNIn, "", (*Emulator).getManagedVersion},
	{"iam:ListPolicyVersions", iam, policyARNIn, "PolicyArn", (*Emulator).listManagedVersions},
	{"iam:SetDefaultPolicyVersion", iam, policyARNIn, "", (*Emulator).setDefaultManagedVersion},
	{"iam:DeletePolicyVersion", iam, policyARNIn, "", (*Emulator).deleteManagedVersion},
}

// newARN is the ARN of what is to be made, of its path and name.
func newARN(parameter string, arn func(path, name string) string) func(*Emulator, url.Values) string {
	return func(_ *Emulator, form url.Values) string {
		if parameter == "PathPrefix" {
			return arn(cmp.Or(form.Get(parameter), "/"), "")
		}
		return arn(cmp.Or(form.Get("Path"), "/"), form.Get(parameter))
	}
}

// roleARNIn is the ARN of the role that a request names, whose path the registry knows.
func roleARNIn(e *Emulator, form url.Values) string {
	name := form.Get("RoleName")
	if found := e.registry.role(name); found != nil {
		return found.arn()
	}
	return roleARN("/", name)
}

func policyARNIn(_ *Emulator, form url.Values) string { return form.Get("PolicyArn") }

func iamError(status int, code, format string, args ...any) *apiError {
	return &apiError{status: status, name: code, message: fmt.Sprintf(format, args...)}
}

func noEntity(format string, args ...any) *apiError {
	return iamError(http.StatusNotFound, "NoSuchEntity", format, args...)
}

func noRole(name string) *apiError {
	return noEntity("The role with name %.64s cannot be found.", name)
}

func entityExists(format string, args ...any) *apiError {
	return iamError(http.StatusConflict, "EntityAlreadyExists", format, args...)
}

func iamLimit(format string, args ...any) *apiError {
	return iamError(http.StatusConflict, "LimitExceeded", format, args...)
}

func iamConflict(format string, args ...any) *apiError {
	return iamError(http.StatusConflict, "DeleteConflict", format, args...)
}

// iamInvalid refuses a parameter in the words of AWS's validation.
func iamInvalid(parameter, want string) *apiError {
	return iamError(http.StatusBadRequest, "ValidationError", "1 validation error detected: Value at '%s' failed to satisfy constraint: %s", parameter, want)
}

// unsupported refuses parameters that would not be obeyed.
func unsupported(form url.Values, prefixes ...string) *apiError {
	for _, name := range sortedKeys(form) {
		if slices.ContainsFunc(prefixes, func(p string) bool { return name == p || strings.HasPrefix(name, p+".") }) {
			return iamError(http.StatusBadRequest, "ValidationError", "%.60s is not emulated: leave it out", name)
		}
	}
	return nil
}

// readIAMPolicy reads a policy document of a request.
func readIAMPolicy(text string, max int, parse func(string) (*iampolicy.Document, error)) (policyText, *apiError) {
	p, err := readPolicy(text, max, parse)
	switch {
	case errors.Is(err, errTooLong):
		return p, iamLimit("Maximum policy size of %d bytes exceeded", max)
	case err != nil:
		return p, iamError(http.StatusBadRequest, "MalformedPolicyDocument", "%s", strings.TrimPrefix(err.Error(), iampolicy.ErrMalformed.Error()+": "))
	}
	return p, nil
}

// number reads a parameter between min and max.
func number(form url.Values, name string, fallback, min, max int) (int, *apiError) {
	if !form.Has(name) {
		return fallback, nil
	}
	n, err := strconv.Atoi(form.Get(name))
	if err != nil || n < min || n > max {
		return 0, iamInvalid(name, fmt.Sprintf("Member must have value between %d and %d", min, max))
	}
	return n, nil
}

// pathIn reads a path, or the beginning of one.
func pathIn(form url.Values, name string) (string, *apiError) {
	path := cmp.Or(form.Get(name), "/")
	if !isIAMPath(path) && (name == "Path" || !isIAMPath(path+"/")) {
		return "", iamInvalid(name, "Member must begin and end with / and hold visible characters")
	}
	return path, nil
}

func descriptionIn(form url.Values) (string, *apiError) {
	text := form.Get("Description")
	if len(text) > iamDescriptionMax || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\t' && r != '\n' && r != '\r' }) {
		return "", iamInvalid("description", fmt.Sprintf("Member must have length less than or equal to %d, without control characters", iamDescriptionMax))
	}
	return text, nil
}

func nameIn(form url.Values, parameter string, max int) (string, *apiError) {
	name := form.Get(parameter)
	if !isIAMName(name, max) {
		return "", iamInvalid(strings.ToLower(parameter[:1])+parameter[1:], fmt.Sprintf("Member must be 1 to %d of [\\w+=,.@-]", max))
	}
	return name, nil
}

// changeRole changes the role that a request names, whose policies and path are a copy's.
func (e *Emulator) changeRole(c *call, f func(b *Batch, r *role) *apiError) *apiError {
	name := c.query.Get("RoleName")
	return e.change(func(b *Batch) *apiError {
		found := b.r.roles[name]
		if found == nil {
			return noRole(name)
		}
		changed := found.clone()
		if refused := f(b, changed); refused != nil {
			return refused
		}
		put(b, b.r.roles, name, changed)
		return nil
	})
}

// role returns a role by name; nil if there is none. It never changes.
func (r *Registry) role(name string) *role {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.roles[name]
}

type iamListing struct {
	IsTruncated bool   `xml:"IsTruncated"`
	Marker      string `xml:"Marker,omitempty"`
}

// listIAM turns the sorted keys of a listing into a page's, and says whether it is the last.
func listIAM(e *Emulator, c *call, keys []string) ([]string, iamListing, *apiError) {
	p, refused := e.pageIn(c, "MaxItems", "Marker", iamPage, iamPageMax)
	if refused != nil {
		return nil, iamListing{}, refused
	}
	page, more := behind(keys, p.after, p.limit)
	page, next := turn(e, p, page, more, func(key string) string { return key })
	return page, iamListing{next != "", next}, nil
}

func iamTime(at time.Time) string { return at.Format(time.RFC3339) }

// escaped is a document as IAM answers it (RFC 3986).
func escaped(text string) string { return escape(text, "") }
