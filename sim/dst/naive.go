package dst

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// The observer's own reading of the documents that plans hold: as simple as can be, and
// nothing of the product's. It knows no more of their language than plans use.

// naivePolicy is a deviceGroups document.
type naivePolicy struct {
	FormatVersion string                `json:"formatVersion"`
	Definitions   map[string]naiveGroup `json:"definitions"`
	Policies      map[string]map[string]struct {
		Effect     string   `json:"effect"`
		Operations []string `json:"operations"`
		Resources  []string `json:"resources"`
	} `json:"policies"`
	memo map[naiveAsk]bool
}

type naiveGroup struct {
	SelectionRule string `json:"selectionRule"`
	PolicyName    string `json:"policyName"`
}

type naiveAsk struct{ thing, operation, resource string }

// memoMax bounds the answers that are remembered for a document.
const memoMax = 1 << 14

const (
	naiveVersion  = "2021-03-05"
	naiveVariable = "${iot:Connection.Thing.ThingName}"
	naiveRule     = "thingName:"
	naivePending  = "pending" // the group of those that nobody registered
)

// readNaive reads a document. An error: it must not be taken (client-device-auth spec 1.3).
func readNaive(doc []byte) (*naivePolicy, error) {
	p := &naivePolicy{memo: make(map[naiveAsk]bool)}
	if err := json.Unmarshal(doc, p); err != nil {
		return nil, err
	}
	if p.FormatVersion != naiveVersion {
		return nil, fmt.Errorf("format %q", p.FormatVersion)
	}
	for name, g := range p.Definitions {
		if _, ok := p.Policies[g.PolicyName]; !ok {
			return nil, fmt.Errorf("group %q: no policy %q", name, g.PolicyName)
		}
		for clause := range strings.SplitSeq(g.SelectionRule, " OR ") {
			if text, ok := strings.CutPrefix(clause, naiveRule+" "); !ok || text == "" || strings.ContainsAny(text, " ") {
				return nil, fmt.Errorf("group %q: rule %q", name, g.SelectionRule)
			}
		}
	}
	for name, p := range p.Policies {
		for _, s := range p {
			if s.Effect != "ALLOW" {
				return nil, fmt.Errorf("policy %q: effect %q", name, s.Effect)
			}
			for _, r := range s.Resources {
				if strings.Contains(strings.ReplaceAll(r, naiveVariable, ""), "${") {
					return nil, fmt.Errorf("policy %q: resource %q", name, r)
				}
			}
		}
	}
	return p, nil
}

// text is the document in a form of its own: the same for two that mean the same.
func (p *naivePolicy) text() string {
	text, err := json.Marshal(p)
	if err != nil {
		panic(err) // maps of strings
	}
	return string(text)
}

// allows says whether the document lets thing do it (client-device-auth spec 2 and 3). A nil
// policy allows nothing.
func (p *naivePolicy) allows(thing, operation, resource string) bool {
	if p == nil {
		return false
	}
	ask := naiveAsk{thing, operation, resource}
	known, ok := p.memo[ask]
	if !ok {
		known = p.judge(thing, operation, resource)
		if len(p.memo) < memoMax {
			p.memo[ask] = known
		}
	}
	return known
}

func (p *naivePolicy) judge(thing, operation, resource string) bool {
	for _, g := range p.Definitions {
		if !inGroup(g.SelectionRule, thing) {
			continue
		}
		if p.grants(g, thing, operation, resource) {
			return true
		}
	}
	return false
}

// allowsPending says whether the group of pending devices, alone, lets thing do it.
func (p *naivePolicy) allowsPending(thing, operation, resource string) bool {
	if p == nil {
		return false
	}
	g, ok := p.Definitions[naivePending]
	return ok && inGroup(g.SelectionRule, thing) && p.grants(g, thing, operation, resource)
}

// grants says whether a group's statements let thing do it.
func (p *naivePolicy) grants(g naiveGroup, thing, operation, resource string) bool {
	for _, s := range p.Policies[g.PolicyName] {
		for _, op := range s.Operations {
			if op != operation && op != "mqtt:*" && op != "*" {
				continue
			}
			for _, r := range s.Resources {
				if like(strings.ReplaceAll(r, naiveVariable, thing), resource) {
					return true
				}
			}
		}
	}
	return false
}

func inGroup(rule, thing string) bool {
	for clause := range strings.SplitSeq(rule, " OR ") {
		if like(strings.TrimPrefix(clause, naiveRule+" "), thing) {
			return true
		}
	}
	return false
}

// like says whether text is as the pattern says, in which a star is any number of characters.
func like(pattern, text string) bool {
	head, rest, star := strings.Cut(pattern, "*")
	if !strings.HasPrefix(text, head) {
		return false
	}
	text = text[len(head):]
	if !star {
		return text == ""
	}
	for i := 0; i <= len(text); i++ {
		if like(rest, text[i:]) {
			return true
		}
		if rest == "" {
			return true
		}
	}
	return false
}

// resourceOf is what is asked for, as policies spell it.
func resourceOf(op Kind, name string) (operation, resource string) {
	switch op {
	case Connect:
		return "mqtt:connect", "mqtt:clientId:" + name
	case Publish:
		return "mqtt:publish", "mqtt:topic:" + name
	default:
		return "mqtt:subscribe", "mqtt:topicfilter:" + name
	}
}

// naiveSection is what the observer needs of a clientDeviceAuth document.
type naiveSection struct {
	trust         time.Duration
	closeOnRevoke bool
	sessionsMax   int
	guard         bool // a removal takes two listings
	workers       int  // questions to the cloud at a time
	queue         int  // that may wait
}

// errNaive is a document that must not be taken.
var errNaive = errors.New("not a section")

func readSection(doc []byte) (naiveSection, error) {
	var f struct {
		Security struct {
			Minutes int64 `json:"clientDeviceTrustDurationMinutes"`
		} `json:"security"`
		Sessions struct {
			CloseOnRevoke *bool `json:"closeOnRevoke"`
		} `json:"sessions"`
		Refresh struct {
			Guard *bool `json:"massRemovalGuard"`
		} `json:"refresh"`
		Performance struct {
			Sessions int `json:"maxActiveAuthTokens"`
			Workers  int `json:"maxConcurrentCloudRequests"`
			Queue    int `json:"cloudRequestQueueSize"`
		} `json:"performance"`
	}
	if err := json.Unmarshal(doc, &f); err != nil {
		return naiveSection{}, errors.Join(errNaive, err)
	}
	s := naiveSection{trust: time.Duration(max(f.Security.Minutes, 1)) * time.Minute, closeOnRevoke: true, sessionsMax: 2500, guard: true, workers: max(f.Performance.Workers, 1), queue: 100}
	if f.Sessions.CloseOnRevoke != nil {
		s.closeOnRevoke = *f.Sessions.CloseOnRevoke
	}
	if f.Refresh.Guard != nil {
		s.guard = *f.Refresh.Guard
	}
	if f.Performance.Sessions > 0 {
		s.sessionsMax = f.Performance.Sessions
	}
	if f.Performance.Queue > 0 {
		s.queue = f.Performance.Queue
	}
	return s, nil
}
