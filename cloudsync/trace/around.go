package trace

import (
	"fmt"
	"slices"
	"time"
)

// skew is how far the cloud's clock is ahead of this machine's.
func (t *tracer) skew() (ahead time.Duration, known bool) {
	if t.ahead != nil {
		return *t.ahead, true
	}
	if ahead, known = t.Reader.Skew(); !known && !t.probed.Date.IsZero() {
		ahead, known = SkewOf(t.probed.Asked, t.probed.Answered, t.probed.Date), true
	}
	return ahead, known
}

// now is this machine's time, set right by the cloud's.
func (t *tracer) now() time.Time {
	ahead, _ := t.skew()
	return t.Now().Add(ahead)
}

func (t *tracer) clock() *Node {
	ahead, known := t.skew()
	return clockNode(ahead, known)
}

// clockNode judges how far the cloud's clock is ahead of this machine's.
func clockNode(ahead time.Duration, known bool) *Node {
	n := &Node{Kind: KindClock, Name: "this machine's", State: OK}
	if !known {
		n.State, n.Detail = Unknown, "the cloud did not tell its time"
		return n
	}
	word, apart := "behind", ahead.Round(time.Second)
	if ahead < 0 {
		word, apart = "ahead of", -apart
	}
	set := []string{"set this machine's clock: timedatectl set-ntp true, and see timedatectl timesync-status"}
	switch {
	case apart >= SkewMax:
		n.fail(Broken, ClockSkew, set, "it is %v %s the cloud's: AWS refuses what is signed more than %v off", apart, word, SkewMax)
	case apart >= skewWarned:
		n.fail(Warning, ClockSkew, set, "it is %v %s the cloud's", apart, word)
	default:
		n.Detail = fmt.Sprintf("within %v of the cloud's", max(apart, time.Second))
	}
	return n
}

func (t *tracer) endpoints() (list []*Node) {
	for _, e := range []struct{ configured, kind, service, setting string }{
		{t.Local.Greengrass, "", "greengrass", "cloud.endpoint"},
		{t.Local.Data, "iot:Data-ATS", "data", "cloud.iotDataEndpoint"},
		{t.Local.Credentials, "iot:CredentialProvider", "credentials", "cloud.credentialEndpoint"},
	} {
		if e.configured != "" {
			list = append(list, t.endpoint(e.configured, e.kind, e.service, e.setting))
		}
	}
	return list
}

// endpoint judges a configured endpoint by its name, and beside what the account says.
func (t *tracer) endpoint(configured, kind, service, setting string) *Node {
	n := &Node{Kind: KindEndpoint, Name: configured, State: OK, Detail: setting}
	p, known := placeOf(configured)
	look := "iot:Data-ATS"
	if kind != "" {
		look = kind
	}
	fix := []string{aws("iot describe-endpoint --endpoint-type %s --region %s", look, t.region), "and put what it says into " + setting}
	switch {
	case known && t.region != "" && p.region != t.region:
		return n.fail(Broken, EndpointWrongRegion, fix, "%s is of region %s, and the certificate and its policies are in %s", setting, p.region, t.region)
	case known && p.service != service && !(service == "greengrass" && p.service == "data"):
		return n.fail(Broken, EndpointWrong, fix, "%s is the endpoint of another service (%s)", setting, p.service)
	case service == "greengrass" && known && p.account == "" && t.private:
		return n.fail(Broken, PrivateCARegional, fix,
			"the core's certificate is of a private CA, which the region's own Greengrass endpoint does not take: %s must be the account's AWS IoT data endpoint", setting)
	case service == "greengrass" && (!known || p.account == ""):
		return n // the region's: there is nothing to compare it with
	}
	said, err := t.Reader.Endpoint(t.ctx, look)
	switch {
	case err != nil:
		return n.unread(err)
	case hostOf(said) == hostOf(configured):
	case known:
		n.fail(Broken, EndpointWrong, fix, "%s is another account's: this account's is %s", setting, said)
	default:
		n.State, n.Detail = Note, fmt.Sprintf("%s: AWS says %s, which may be the same by another name", setting, said)
	}
	return n
}

func (t *tracer) serviceRole() *Node {
	n := &Node{Kind: KindServiceRole, Name: "Greengrass", State: OK}
	arn, err := t.Reader.ServiceRole(t.ctx)
	state := Broken
	if t.Local.OwnVerifier {
		state = Warning
	}
	switch {
	case isNotFound(err) || err == nil && arn == "":
		n.fail(state, ServiceRoleMissing, []string{
			aws("greengrassv2 associate-service-role-to-account --role-arn arn:aws:iam::%s:role/service-role/Greengrass_ServiceRole --region %s", orWord(t.account, "ACCOUNT"), orWord(t.region, "REGION")),
			"the role is made by the console: IoT > Settings > Greengrass service role > Attach role",
		}, "Greengrass has no service role in this account and region: it can verify no client device")
	case err != nil:
		n.unread(err)
	default:
		n.Detail = arn
	}
	return n
}

func orWord(s, word string) string {
	if s == "" {
		return word
	}
	return s
}

// associations says which client devices the core has, or, if the subject is another thing
// than this machine's core, whether it is one of its devices.
func (t *tracer) associations() *Node {
	core := t.Local.Thing
	if core == "" {
		core = t.Thing
	}
	n := &Node{Kind: KindAssociations, Name: "of " + string(core), State: OK}
	devices, more, err := t.Reader.Associated(t.ctx, core)
	associate := "greengrassv2 batch-associate-client-device-with-core-device --core-device-thing-name %s --entries thingName=%s"
	if err != nil && !isNotFound(err) {
		return n.unread(err)
	}
	if t.Thing != core {
		t.isDevice = slices.Contains(devices, t.Thing)
		switch {
		case t.isDevice:
			n.Detail = string(t.Thing) + " is associated with this core"
		case more:
			n.State, n.Detail = Unknown, fmt.Sprintf("%s is not among the first %d", t.Thing, len(devices))
		case t.Device:
			n.fail(Broken, NotAssociated, []string{aws(associate, core, t.Thing)}, "%s is not associated with the core", t.Thing)
		default:
			return nil // another core, perhaps
		}
		return n
	}
	t.devices = devices
	switch count := len(devices); {
	case count == 0:
		n.fail(Broken, NoAssociations, []string{aws(associate, core, "DEVICE")}, "no client device is associated with the core: it can let nobody in for the first time")
	case more:
		n.Detail = fmt.Sprintf("%d and more", count)
	default:
		n.Detail = fmt.Sprint(count)
	}
	return n
}
