package daemon

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/awsemutest"
)

const fleetSize = 200

// TestNobodyIsDisconnected is issue 4's second demand: through ten forced rotations, changes
// of addresses and a renewal of the authority a fleet stays connected and loses no message;
// new handshakes show the new certificate, and verify by what is published at that instant.
func TestNobodyIsDisconnected(t *testing.T) {
	f := newFleet(t)
	began := time.Now()
	f.board(fleetSize)
	probers := []*prober{{f: f, version: tls.VersionTLS12}, {f: f, version: tls.VersionTLS13}}
	for _, p := range probers {
		f.work.Go(p.run)
	}
	f.passage("at the beginning")
	s := &shown{f: f, probers: probers, names: []string{"localhost", "first.example"}}
	s.next("at the beginning", func() {})

	s.rotate(1, 2, 3)
	s.next("other addresses", func() { s.move("second.example") })
	s.rotate(4, 5)

	former := f.d.authority.Load().Describe().Authorities
	s.same("a second authority is published", func() { must(t, f.d.authority.Load().Replace(t.Context(), "test")) })
	s.uploaded(2)
	s.rotate(6) // by the former one: devices need time to hear of the second
	if issuer := s.issuer(); issuer != former[0].ID {
		t.Errorf("%s issues as soon as it is there", issuer)
	}
	s.next("the second authority issues", func() {
		// Ten minutes later. The core hears of the time from the cloud, when a device connects.
		f.ahead.Store(int64(11 * time.Minute))
		_, err := f.visit("localhost")
		must(t, err)
		f.d.authority.Load().Wake() // as the look at the clock does each minute
	})
	if issuer := s.issuer(); issuer == former[0].ID {
		t.Errorf("%s still issues", issuer)
	}
	s.rotate(7, 8)
	s.next("other addresses again", func() { s.move("third.example", "10.1.2.3") })
	s.rotate(9, 10)

	count := f.land()
	eventually(t, "the visitors have gone and the fleet has not", func() bool { return f.d.mqtt.Connected() == fleetSize })
	s.onRecord()
	handshakes := int64(0)
	for _, p := range probers {
		handshakes += p.count.Load()
		if p.shown() < len(s.serials)/2 {
			t.Errorf("a prober saw %d of %d certificates", p.shown(), len(s.serials))
		}
	}
	t.Logf("%d clients, %d certificates, 2 authorities: %d messages with QoS 1, none lost; %d new handshakes, all verified; %.1f s",
		fleetSize, len(s.serials), count, handshakes, time.Since(began).Seconds())
}

// shown follows which certificate the broker shows.
type shown struct {
	f       *fleet
	probers []*prober
	names   []string // by which devices find the core
	serials []string // one after the other
}

// next does something, of which a new certificate comes, and waits until a device is shown
// it and the whole fleet has talked since.
func (s *shown) next(what string, do func()) {
	s.f.t.Helper()
	do()
	eventually(s.f.t, what+": a new certificate", func() bool {
		serial, err := s.f.visit(s.names[len(s.names)-1])
		_, early := errors.AsType[x509.HostnameError](err) // its name is still to come
		if err != nil && !early {
			s.f.t.Fatalf("%s: %v", what, err)
		}
		if err != nil || slices.Contains(s.serials, serial) {
			return false
		}
		s.serials = append(s.serials, serial)
		return true
	})
	s.same(what, func() {})
}

// same does something of which no certificate comes.
func (s *shown) same(what string, do func()) {
	s.f.t.Helper()
	do()
	for _, p := range s.probers {
		p.more()
	}
	s.f.passage(what)
	if serial, err := s.f.visit("localhost"); err != nil || serial != s.serials[len(s.serials)-1] {
		s.f.t.Errorf("%s: shown %s (%v), want %s", what, serial, err, s.serials[len(s.serials)-1])
	}
}

// rotate forces rotations. The very next handshake shows the new certificate.
func (s *shown) rotate(numbers ...int) {
	s.f.t.Helper()
	for _, n := range numbers {
		what := fmt.Sprintf("rotation %d", n)
		must(s.f.t, s.f.d.authority.Load().Rotate(s.f.t.Context(), what))
		serial, err := s.f.visit(s.names[len(s.names)-1])
		if err != nil || slices.Contains(s.serials, serial) {
			s.f.t.Fatalf("%s: shown %s, %v", what, serial, err)
		}
		s.serials = append(s.serials, serial)
		s.same(what, func() {})
	}
}

// move tells the cloud other addresses of the core.
func (s *shown) move(hosts ...string) {
	s.f.t.Helper()
	var addresses []awsemu.Connectivity
	for _, host := range hosts {
		addresses = append(addresses, awsemu.Connectivity{Host: host})
	}
	_, err := s.f.cloud.Registry.SetConnectivity(awsemutest.Core, s.f.now(), addresses...)
	must(s.f.t, err)
	s.names = hosts
}

// uploaded waits until the cloud tells devices of n authorities: those that are published.
func (s *shown) uploaded(n int) {
	s.f.t.Helper()
	eventually(s.f.t, "the cloud has the authorities", func() bool {
		list := s.f.cloud.Registry.Authorities(awsemutest.Core) // the newest first
		slices.Reverse(list)
		return len(list) == n && strings.Join(list, "") == string(s.f.d.authority.Load().PEM())
	})
	eventually(s.f.t, "that is on record", func() bool {
		list := s.f.d.authority.Load().Describe().Authorities
		return len(list) == n && list[n-1].Uploaded
	})
}

// issuer signed the broker's certificate.
func (s *shown) issuer() messages.CertificateID {
	s.f.t.Helper()
	for _, c := range s.f.d.authority.Load().Describe().Certificates {
		if c.Subscriber == mqttSubscriber {
			return c.Authority
		}
	}
	s.f.t.Fatal("the broker has no certificate")
	return ""
}

// onRecord: by the log each certificate that was shown was ordered, issued and delivered
// once, and of all sessions only the guest's ended.
func (s *shown) onRecord() {
	t := s.f.t
	t.Helper()
	ordered, issued, delivered, opened := map[string]int{}, map[string]int{}, map[string]int{}, 0
	for rec, err := range s.f.d.log.Scan(t.Context(), 1, math.MaxUint64) {
		must(t, err)
		switch rec.Kind {
		case messages.KindSessionOpened:
			opened++
			continue
		case messages.KindSessionClosed:
			if rec.Stream != "device/line-guest" {
				t.Errorf("record %d: a session of %s ended", rec.Seq, rec.Stream)
			}
			continue
		}
		if rec.Stream != messages.StreamCA {
			continue
		}
		e, err := messages.DecodeEvent(&rec)
		must(t, err)
		switch e := e.(type) {
		case *messages.CertificateOrdered:
			ordered[e.Serial]++
		case *messages.CertificateIssued:
			issued[e.Serial]++
		case *messages.CertificateDelivered:
			delivered[e.Serial]++
		}
	}
	if want := fleetSize + s.f.visits; opened != want {
		t.Errorf("%d sessions were opened, want %d", opened, want)
	}
	for _, serial := range s.serials {
		if ordered[serial] != 1 || issued[serial] != 1 || delivered[serial] != 1 {
			t.Errorf("%s: %d times ordered, %d issued, %d delivered", serial, ordered[serial], issued[serial], delivered[serial])
		}
	}
	for serial, n := range ordered {
		if n != 1 {
			t.Errorf("serial number %s was used %d times", serial, n)
		}
	}
}
