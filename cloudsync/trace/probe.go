package trace

import (
	"fmt"
	"strings"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// meanings are the credentials endpoint's refusals, in the order in which it checks, and the
// link that each breaks at (cloud spec 2).
var meanings = []struct {
	status  int
	message string
	fault   Fault
	link    string
}{
	{403, "Certificate is invalid on this endpoint", CertificateInactive, "the certificate is not active, or the endpoint is of another region or account"},
	{403, "Invalid thing name passed", ThingNotAttached, "the certificate is not attached to the thing"},
	{403, "Access Denied", PolicyLacksAssume, "no policy of the certificate allows " + assumeWithCertificate + " on the role alias"},
	{404, "Role alias does not exist", RoleAliasMissing, "there is no such role alias"},
	{400, "Unable to assume the role", TrustPolicyWrong, "the role does not exist, or its trust policy does not let AWS IoT have it"},
	{400, "The requested CredentialDurationSeconds exceeds", DurationTooLong, "the alias asks for longer than the role allows"},
}

// meaning is what a refusal says, and "" if it is none of those that are known.
func meaning(a ProbeAnswer) (Fault, string) {
	for _, m := range meanings {
		if a.Status == m.status && strings.HasPrefix(a.Message, m.message) {
			return m.fault, m.link
		}
	}
	return "", ""
}

// probe asks the credentials endpoint for each role alias at the end of way, and compares
// what it says with what was read.
func (t *tracer) probe(certificate *Node, way []*Node) (list []*Node) {
	if t.Prober == nil {
		why := t.NoProbe
		if why == "" {
			why = "the core's key is not at hand"
		}
		return []*Node{{Kind: KindProbe, Name: "not asked", State: Note, Detail: why}}
	}
	thing := t.Local.Thing
	for _, n := range way {
		if n.Kind == KindRoleAlias && !strings.Contains(n.Name, " ") {
			list = append(list, t.probeAlias(certificate, way, n.Name, thing))
		}
	}
	return list
}

func (t *tracer) probeAlias(certificate *Node, way []*Node, alias string, thing messages.ThingName) *Node {
	a := t.Prober.Probe(t.ctx, alias, thing)
	t.probed = a
	n := &Node{Kind: KindProbe, Name: orWord(hostOf(t.Local.Credentials), "credentials"), State: OK}
	broken := certificate.State == Broken
	for _, w := range way {
		broken = broken || w.worst() == Broken
	}
	fault, link := meaning(a)
	if fault == CertificateInactive && certificate.State == OK {
		fault, link = EndpointWrong, "the certificate is active, so the endpoint is of another region or account"
	}
	said := fmt.Sprintf("HTTP %d %q", a.Status, a.Message)
	switch {
	case a.Failed != "":
		n.fail(Broken, EndpointUnreachable, []string{"gatehouse doctor tells more of the network"}, "%s", a.Failed)
	case a.Status == 200 && broken:
		n.fail(Warning, "", []string{"wait: AWS IoT takes minutes until a change is in force"}, "it still gives credentials, although a link is broken by now")
	case a.Status == 200:
		n.Detail = fmt.Sprintf("gives credentials for %s, until %s", alias, day(a.Expires))
		for _, open := range t.undecided {
			open.State, open.Detail = OK, "the credentials endpoint says that it is allowed"
		}
	case fault != "":
		n.fail(Broken, fault, t.fixFor(fault, alias), "%s: %s", said, link)
	case a.Status == 429 || a.Status >= 500:
		n.State, n.Detail = Unknown, said+": the cloud failed or throttles; try again"
	default:
		n.fail(Broken, CredentialsRefused, []string{"check cloud.credentialEndpoint"}, "%s: not an answer of the credentials provider that is known", said)
	}
	return n
}

// fixFor is what to do about a refusal where reading did not find its cause.
func (t *tracer) fixFor(f Fault, alias string) []string {
	own := t.arn("cert", string(t.Local.Certificate))
	switch f {
	case CertificateInactive:
		return []string{aws("iot update-certificate --certificate-id %s --new-status ACTIVE", t.Local.Certificate)}
	case EndpointWrong:
		return []string{aws("iot describe-endpoint --endpoint-type iot:CredentialProvider --region %s", orWord(t.region, "REGION")), "and put what it says into cloud.credentialEndpoint"}
	case ThingNotAttached:
		return []string{aws("iot attach-thing-principal --thing-name %s --principal %s", t.Local.Thing, own)}
	case PolicyLacksAssume:
		return []string{aws("iot list-attached-policies --target %s", own), "one of them must allow " + assumeWithCertificate + " on " + t.arn("rolealias", alias) + "; a change is in force after some minutes"}
	case RoleAliasMissing:
		return []string{aws("iot list-role-aliases"), "and put one of them into cloud.roleAlias"}
	default:
		return []string{aws("iot describe-role-alias --role-alias %s", alias), "and see its role with aws iam get-role --role-name ROLE"}
	}
}
