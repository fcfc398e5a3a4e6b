package trace

import (
	"slices"
	"strings"

	"github.com/gatehouse-edge/gatehouse/cloudsync/iotpolicy"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// need is something that a core does with its certificate.
type need struct {
	action, resource string // the resource behind arn:…:, or *
	use              string
	data             bool // at the Greengrass data plane: no variable of the thing has a value
	verifies         bool // devices cannot be verified without it
}

// devicesMax is for how many of its devices it is seen whether the core may verify them.
const devicesMax = 20

// needs are what Gatehouse asks of AWS as core of devices (cloud spec 1.7, 5).
func needs(core messages.ThingName, devices []messages.ThingName) []need {
	shadow := "$aws/things/" + string(core) + "-gci/shadow/"
	list := []need{
		{action: "greengrass:VerifyClientDeviceIdentity", resource: "*", use: "to verify devices' certificates", data: true, verifies: true},
		{action: "greengrass:PutCertificateAuthorities", resource: "*", use: "so that devices discover the local authority", data: true},
		{action: "greengrass:GetConnectivityInfo", resource: "thing/" + string(core), use: "to learn the core's addresses", data: true},
		{action: "iot:Connect", resource: "client/" + string(core), use: "to hear of new addresses"},
		{action: "iot:Subscribe", resource: "topicfilter/" + shadow + "update/delta", use: "to hear of new addresses"},
		{action: "iot:Receive", resource: "topic/" + shadow + "update/delta", use: "to hear of new addresses"},
		{action: "iot:Subscribe", resource: "topicfilter/" + shadow + "get/accepted", use: "to hear of new addresses"},
		{action: "iot:Receive", resource: "topic/" + shadow + "get/accepted", use: "to hear of new addresses"},
		{action: "iot:Publish", resource: "topic/" + shadow + "get", use: "to hear of new addresses"},
	}
	for _, device := range devices[:min(len(devices), devicesMax)] {
		list = append(list, need{
			action: "greengrass:VerifyClientDeviceIoTCertificateAssociation", resource: "thing/" + string(device),
			use: "to verify whose certificate it is", data: true, verifies: true,
		})
	}
	return list
}

// actions says what of the minimal policy is missing. What is there is one line.
func (t *tracer) actions(h *held, thing messages.ThingName) (list []*Node) {
	if !h.whole || thing == "" || len(h.policies) == 0 {
		return nil // said elsewhere
	}
	allowed := 0
	wanted := needs(thing, t.devices)
	said := map[string]bool{}
	for _, w := range wanted {
		missing := t.lacks(h, w, thing)
		if missing == nil {
			allowed++
			continue
		}
		if w.verifies && said[w.action] {
			continue // of several devices one is named
		}
		said[w.action] = true
		if missing.State == Warning && w.verifies && !t.Local.OwnVerifier && t.Local.Thing == thing {
			missing.State = Broken
		}
		list = append(list, missing)
	}
	if allowed == len(wanted) {
		list = append(list, &Node{Kind: KindAction, Name: "of a core", State: OK, Detail: "the policies allow what Gatehouse asks of AWS"})
	}
	return list
}

// lacks returns nil if the policies allow what is needed.
func (t *tracer) lacks(h *held, w need, thing messages.ThingName) *Node {
	resource := w.resource
	if kind, name, named := strings.Cut(resource, "/"); named {
		resource = t.arn(kind, name)
	}
	r := iotpolicy.Request{Action: w.action, Resource: resource, Context: t.context(h, "", false)}
	policies := h.policies
	if !w.data {
		r.Context, policies = t.context(h, thing, true), slices.Concat(policies, t.grouped.policies)
	}
	result := iotpolicy.Evaluate(policies, r)
	if result.Decision == iotpolicy.Allowed || result.Decision == iotpolicy.ImplicitDeny && !w.data && !t.grouped.whole {
		return nil
	}
	n := &Node{Kind: KindAction, Name: w.action + " on " + w.resource}
	if open := undecided(result, w.data); open != "" {
		n.State, n.Detail = Unknown, "whether the policies allow it depends on "+open
		return n
	}
	fix := []string{"allow " + w.action + " on " + resource + " in a policy of the certificate: " + aws("iot create-policy-version --policy-name POLICY --set-as-default --policy-document file://POLICY.json")}
	why := "no attached policy allows it"
	if result.Decision == iotpolicy.ExplicitDeny {
		why = "policy " + strings.Join(iotpolicy.Names(result.Denying), ", ") + " denies it"
	} else if w.data {
		r.Context = t.context(h, thing, false)
		if iotpolicy.Evaluate(h.policies, r).Decision == iotpolicy.Allowed {
			why = "it is allowed by a variable of the thing, which has no value at the Greengrass data plane: write the name out"
		}
	}
	return n.fail(Warning, PolicyLacksAction, fix, "%s (%s)", why, w.use)
}

// deviceActions says what a client device may do in the cloud. The local broker asks nothing
// of it.
func (t *tracer) deviceActions(h *held, thing messages.ThingName) (list []*Node) {
	if !h.whole || thing == "" {
		return nil
	}
	for _, w := range []need{
		{action: "greengrass:Discover", resource: "thing/" + string(thing), use: "to discover its core", data: true},
		{action: "iot:Connect", resource: "client/" + string(thing), use: "to connect to AWS IoT itself"},
	} {
		n := &Node{Kind: KindAction, Name: w.action, State: OK, Detail: "allowed, " + w.use}
		if t.lacks(h, w, thing) != nil {
			n.State, n.Detail = Note, "not allowed, "+w.use+": the local broker asks nothing of it"
		}
		list = append(list, n)
	}
	return list
}
