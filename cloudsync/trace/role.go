package trace

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// alias traces a role alias that the policies allow, to its role.
func (t *tracer) alias(name string) *Node {
	n := &Node{Kind: KindRoleAlias, Name: name, State: OK}
	a, err := t.Reader.RoleAlias(t.ctx, name)
	switch {
	case isNotFound(err):
		fix := []string{aws("iot create-role-alias --role-alias %s --role-arn ROLE_ARN --credential-duration-seconds 3600", name)}
		if others, err := t.Reader.RoleAliases(t.ctx); err == nil && len(others) > 0 {
			fix = append(fix, "or name one that is there: "+strings.Join(others[:min(len(others), aliasesMax)], ", "))
		}
		return n.fail(Broken, RoleAliasMissing, fix, "there is no such role alias in %s", t.where())
	case err != nil:
		return n.unread(err)
	}
	t.see(a.ARN)
	n.Detail = fmt.Sprintf("credentials for %v", a.Duration)
	n.add(t.iamRole(a))
	return n
}

func (t *tracer) iamRole(a RoleAlias) *Node {
	parts := strings.SplitN(a.Role, ":", 6)
	n := &Node{Kind: KindRole, Name: a.Role, State: OK}
	if len(parts) != 6 || !strings.HasPrefix(parts[5], "role/") {
		return n.fail(Broken, RoleMissing, []string{aws("iot update-role-alias --role-alias %s --role-arn ROLE_ARN", a.Name)}, "the alias names no role")
	}
	if t.account != "" && parts[4] != t.account {
		n.State, n.Detail = Unknown, "it is in account "+parts[4]+", which is not asked"
		return n
	}
	name := parts[5][strings.LastIndex(parts[5], "/")+1:]
	r, err := t.Reader.Role(t.ctx, name)
	switch {
	case isNotFound(err):
		return n.fail(Broken, RoleMissing, []string{
			aws("iam create-role --role-name %s --assume-role-policy-document file://TRUST.json", name),
			aws("iot update-role-alias --role-alias %s --role-arn ROLE_ARN", a.Name),
		}, "the role does not exist")
	case err != nil:
		return n.unread(err)
	}
	n.add(t.trust(a, r), duration(a, r))
	n.add(t.permissions(r)...)
	return n
}

// trustPolicy lets the credentials provider have the role.
const trustPolicy = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"` + credentialsService + `"},"Action":"` + assumeRole + `"}]}`

func (t *tracer) trust(a RoleAlias, r Role) *Node {
	n := &Node{Kind: KindTrust, Name: credentialsService, State: OK, Detail: "may " + assumeRole}
	can, why := trusts(r.Trust, a.ARN, t.account)
	switch can {
	case no:
		n.fail(Broken, TrustPolicyWrong, []string{aws("iam update-assume-role-policy --role-name %s --policy-document %s", r.Name, trustPolicy)},
			"the role's trust policy does not let AWS IoT have it: %s", why)
	case perhaps:
		n.State, n.Detail = Unknown, why
	}
	return n
}

func duration(a RoleAlias, r Role) *Node {
	n := &Node{Kind: KindDuration, Name: a.Duration.String(), State: OK, Detail: fmt.Sprintf("the role allows %v", r.MaxSession)}
	if r.MaxSession > 0 && a.Duration > r.MaxSession {
		n.fail(Broken, DurationTooLong, []string{
			aws("iot update-role-alias --role-alias %s --credential-duration-seconds %s", a.Name, seconds(r.MaxSession)),
			aws("iam update-role --role-name %s --max-session-duration %s", r.Name, seconds(a.Duration)),
		}, "the alias asks for %v, and the role allows %v at most: do the one or the other", a.Duration, r.MaxSession)
	}
	return n
}

// roleActions are what a core does with its role's credentials. What is not wanted is shown.
var roleActions = []struct {
	action   string
	wanted   bool
	resource string
	use      string
}{
	{"greengrass:ListClientDevicesAssociatedWithCoreDevice", true, "", "to learn which devices are associated"},
	{"s3:GetObject", false, "arn:aws:s3:::ANY-BUCKET/ANY-OBJECT", "components' artifacts"},
	{"logs:PutLogEvents", false, "arn:aws:logs:ANY-REGION:000000000000:log-group:/aws/greengrass/ANY:log-stream:ANY", "logs in CloudWatch"},
}

// coreARN names the core to IAM.
func (t *tracer) coreARN() string {
	core := t.Local.Thing
	if core == "" {
		core = t.Thing
	}
	// IAM parts the two by a colon.
	return strings.NewReplacer(":iot:", ":greengrass:", ":coreDevices/", ":coreDevices:").Replace(t.arn("coreDevices", string(core)))
}

func (t *tracer) permissions(r Role) (list []*Node) {
	documents, err := t.Reader.RolePolicies(t.ctx, r.Name)
	if err != nil {
		return []*Node{(&Node{Kind: KindPermission, Name: "of the role"}).unread(err)}
	}
	for _, a := range roleActions {
		resource := a.resource
		if a.wanted {
			resource = t.coreARN()
		}
		can, why := permits(documents, a.action, resource)
		n := &Node{Kind: KindPermission, Name: a.action, State: OK, Detail: why}
		switch {
		case can == no && a.wanted:
			n.fail(Warning, RoleLacksAction, []string{aws("iam put-role-policy --role-name %s --policy-name GatehouseCore --policy-document %s", r.Name, allowOne(a.action))},
				"the role may not do this (%s): %s", a.use, why)
		case can != yes:
			n.State, n.Detail = Note, fmt.Sprintf("%s (%s)", why, a.use)
		}
		list = append(list, n)
	}
	return list
}

func allowOne(action string) string {
	return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"` + action + `","Resource":"*"}]}`
}

func seconds(d time.Duration) string { return strconv.Itoa(int(d / time.Second)) }
