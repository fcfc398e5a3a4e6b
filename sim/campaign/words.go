package campaign

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-edge/gatehouse/sim/dst"
)

// A domain is where faults happen, with the words for its kinds, by dst's names.
type domain struct {
	name  string
	kinds [][2]string
}

var domains = []domain{
	{"disk", [][2]string{{"store-slow", "slow"}, {"store-error", "write failed"}, {"store-full", "full"}, {"snapshot-lost", "snapshots lost"}}},
	{"network", [][2]string{{"net-drop", "lost messages"}, {"net-delay", "late"}, {"net-duplicate", "twice"}, {"net-partition", "broker cut off"}, {"net-restart", "NATS restarted"}}},
	{"cloud", [][2]string{{"cloud-down", "away"}, {"cloud-slow", "slow or silent"}, {"cloud-errors", "errors"}, {"cloud-stale", "old answers"}, {"cloud-listing", "bad listings"}, {"cloud-time", "wrong time"}}},
	{"power", [][2]string{{"crash", "core killed"}, {"power-cut", "power cut"}, {"broker-crash", "broker killed"}}},
	{"clock", [][2]string{{"clock-jump", "set wrong"}, {"clock-drift", "drifting"}, {"clock-unset", "unset at boot"}, {"suspend", "machine asleep"}}},
}

// faultWords are the words for a kind of fault, with its domain.
func faultWords(kind string) string {
	for _, d := range domains {
		for _, k := range d.kinds {
			if k[0] == kind {
				return d.name + ": " + k[1]
			}
		}
	}
	return kind
}

// grouped writes n with commas.
func grouped[N int | uint64](n N) string {
	s := strconv.FormatUint(uint64(n), 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// count writes n things.
func count[N int | uint64](n N, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return grouped(n) + " " + many
}

// span writes a duration of virtual time as people say it.
func span(d time.Duration) string {
	day := 24 * time.Hour
	switch {
	case d >= 100*day:
		return grouped(uint64(d/day)) + " days"
	case d >= 2*day:
		return fmt.Sprintf("%.1f days", days(d))
	case d >= time.Second:
		d = d.Round(time.Second)
	}
	s := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if t, ok := strings.CutSuffix(s, zero); ok {
			s = t + zero[:1]
		}
	}
	return s
}

// moment writes a true time since the beginning, for tables.
func moment(d time.Duration) string {
	whole := d.Truncate(time.Second)
	s := fmt.Sprintf("%d:%02d:%02d", int(whole.Hours()), int(whole.Minutes())%60, int(whole.Seconds())%60)
	if ms := (d - whole).Milliseconds(); ms > 0 {
		s += fmt.Sprintf(".%03d", ms)
	}
	return s
}

// Describe says in plain words what an action does.
func Describe(p *dst.Plan, a *dst.Action) string {
	client, broker := clientWords(p, a.Client), string(dst.BrokerOf(a.Broker))
	thing := string(dst.ThingOf(a.Thing))
	switch a.Kind {
	case dst.Connect:
		as := thing
		if a.Name != "" {
			as = strconv.Quote(cutLong(a.Name))
		}
		if as == client {
			return client + " connects to " + broker + with(p, a, client)
		}
		return client + " connects to " + broker + " as " + as + with(p, a, client)
	case dst.Disconnect:
		return client + " disconnects"
	case dst.Vanish:
		return client + " is gone without a word"
	case dst.Publish:
		return client + " publishes to " + cutLong(a.Name)
	case dst.Subscribe:
		return client + " subscribes to " + cutLong(a.Name)
	case dst.Quarantine, dst.Release, dst.Forget:
		return fmt.Sprintf("an operator orders: %s %s", a.Kind, thing)
	case dst.EditPolicy:
		return fmt.Sprintf("the policy is replaced (%d bytes)", len(a.Text))
	case dst.EditSection:
		return fmt.Sprintf("the configuration is replaced (%d bytes)", len(a.Text))
	case dst.RotateAuth:
		return "an operator replaces the authority"
	case dst.AskedRefresh:
		return "an operator asks for a refresh of trust"
	case dst.RemoveBrokers:
		return "an operator takes " + broker + "'s certificates back"
	case dst.Activate, dst.Deactivate:
		return fmt.Sprintf("the cloud %ss %s", a.Kind, certWords(p, a.Cert))
	case dst.Attach:
		return fmt.Sprintf("the cloud attaches %s to %s", certWords(p, a.Cert), thing)
	case dst.Detach:
		return fmt.Sprintf("the cloud detaches %s from %s", certWords(p, a.Cert), thing)
	case dst.Associate, dst.Dissociate:
		if a.Count > 1 {
			thing += fmt.Sprintf(" and %d more", a.Count-1)
		}
		return fmt.Sprintf("the cloud %ss %s", a.Kind, thing)
	case dst.Restart:
		return "the core is stopped in order, and started again" + after(a)
	}
	return faultOf(a, broker)
}

func faultOf(a *dst.Action, broker string) string {
	what := a.Kind.String()
	if a.How != "" {
		what += " " + a.How
	}
	switch a.Kind {
	case dst.FaultNet, dst.FaultCut, dst.FaultBroker:
		what += " at " + broker
	}
	if a.Rate != 0 {
		what += fmt.Sprintf(", rate %.3g", a.Rate)
	}
	if a.Amount != 0 {
		what += ", by " + a.Amount.String()
	}
	if a.For != 0 {
		what += ", for " + a.For.String()
	}
	return "fault: " + what
}

func after(a *dst.Action) string {
	if a.Amount == 0 {
		return ""
	}
	return " after " + a.Amount.String()
}

func clientWords(p *dst.Plan, client int) string {
	if client < p.Devices {
		return string(dst.ThingOf(client))
	}
	return fmt.Sprintf("stranger %d", client-p.Devices+1)
}

func with(p *dst.Plan, a *dst.Action, client string) string {
	if a.Cert == (dst.Cert{Of: a.Client}) && a.Client < p.Devices {
		return ""
	}
	return " with " + certWords(p, a.Cert)
}

func certWords(p *dst.Plan, c dst.Cert) string {
	whose := "a certificate of nobody's"
	if c.Of >= 0 {
		whose = clientWords(p, c.Of) + "'s certificate"
		if c.Gen > 0 {
			whose = fmt.Sprintf("%s's certificate no. %d", clientWords(p, c.Of), c.Gen+1)
		}
	}
	if c.Spoilt != "" {
		whose += " (" + c.Spoilt + ")"
	}
	return whose
}

func cutLong(s string) string {
	const most = 60
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}

// Command is what plays the configuration again.
func Command(c dst.Config) string {
	words := []string{"gatehouse sim run", "--seed " + strconv.FormatUint(c.Seed, 10)}
	if c.Devices > 0 {
		words = append(words, "--devices "+strconv.Itoa(c.Devices))
	}
	if c.Brokers > 0 {
		words = append(words, "--brokers "+strconv.Itoa(c.Brokers))
	}
	if d := c.Duration; d > 0 {
		if days := d / (24 * time.Hour); days*24*time.Hour == d {
			words = append(words, fmt.Sprintf("--days %d", days))
		} else {
			words = append(words, "--for "+d.String())
		}
	}
	if c.FaultsChosen {
		words = append(words, "--faults "+c.Faults.String())
	}
	if c.Mode != dst.Both {
		words = append(words, "--mode "+c.Mode.String())
	}
	return strings.Join(words, " ")
}

// byCount are a map's names, the most frequent first.
func byCount(m map[string]uint64) []string {
	names := make([]string, 0, len(m))
	for name, n := range m {
		if n > 0 {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		if m[a] != m[b] {
			if m[a] > m[b] {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	})
	return names
}
