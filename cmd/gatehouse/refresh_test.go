package main

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/cloudsync"
	"github.com/gatehouse-edge/gatehouse/cmd/internal/daemon"
)

// refreshed begins a refresh and waits until it has ended.
func refreshed(d *dev, want string) daemon.RefreshReport {
	d.t.Helper()
	before := answer[daemon.RefreshReport](d, "trust", "refresh", "--now")
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		r := answer[daemon.RefreshReport](d, "trust", "refresh")
		if l := r.Last; r.Running == nil && l != nil && (before.Last == nil || l.Record > before.Last.Record || before.Running == nil) {
			if !strings.Contains(l.Outcome+" "+l.Reason, want) {
				d.t.Fatalf("the refresh ended with %+v, want %s", l, want)
			}
			return r
		}
		if time.Now().After(end) {
			d.t.Fatalf("the refresh does not end: %+v", r)
		}
	}
}

// awaitRefresh waits until `trust refresh` says something.
func awaitRefresh(d *dev, pattern string) {
	d.t.Helper()
	want := regexp.MustCompile(pattern)
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		out := d.must("refresh: ", "trust", "refresh")
		if want.MatchString(out) {
			return
		}
		if time.Now().After(end) {
			d.t.Fatalf("trust refresh never says %s, but\n%s", want, out)
		}
	}
}

// TestRefresh: who is associated with the core keeps its trust, who is not loses it, and a
// listing that fails changes nothing; and one under way says how far it is.
func TestRefresh(t *testing.T) {
	need(t, "mosquitto_pub")
	d := startDev(t, "", "--trust", "1h")
	for _, thing := range []string{"sensor-1", "sensor-2"} {
		if out, err := d.publish(thing, thing, "sensors/"+thing+"/t"); err != nil {
			t.Fatalf("%s cannot publish: %v\n%s", thing, err, out)
		}
	}
	if l := refreshed(d, "completed").Last; l.Listed != 3 || l.Renewed != 4 || l.Removed != 0 {
		t.Errorf("the refresh did %+v", l)
	}

	d.must("misbehaves", "sim", "cloud", "fault", "--operation", string(cloudsync.OpVerifyAssociation), "--latency", "1s")
	before := answer[daemon.RefreshReport](d, "trust", "refresh", "--now")
	awaitRefresh(d, `under way since [^a-z]+Z, asking: 3 things listed, [1-3] of 4 questions settled\n`)
	d.must("the cloud behaves", "sim", "cloud", "fault", "clear")
	awaitRefresh(d, `completed at [^a-z]+Z \(record [0-9]+\): 3 things listed, 4 .*\nrefresh: the next`)
	if r := answer[daemon.RefreshReport](d, "trust", "refresh"); before.Running == nil || r.Last.Record <= before.Last.Record || r.Progress.Done != 4 || r.Progress.Total != 4 {
		t.Errorf("the refresh that began with %+v ended with %+v, %+v", before, r.Last, r.Progress)
	}

	d.must("misbehaves", "sim", "cloud", "fault", "--operation", "ListClientDevicesAssociatedWithCoreDevice", "--status", "403", "--error", "AccessDeniedException")
	if r := refreshed(d, "failed"); !strings.Contains(r.Last.Reason, "greengrass:ListClientDevicesAssociatedWithCoreDevice") {
		t.Errorf("the missing permission is not named: %s", r.Last.Reason)
	}
	d.must("", "sim", "cloud", "fault", "clear")

	d.must("", "sim", "cloud", "disassociate", "sensor-2")
	if l := refreshed(d, "completed").Last; l.Listed != 2 || l.Renewed != 2 || l.Removed != 1 {
		t.Errorf("the refresh did %+v", l) // the certificate stays: it was confirmed a moment ago
	}
	d.must("the cloud is away", "sim", "cloud", "off")
	if out, err := d.publish("sensor-1", "sensor-1", "sensors/sensor-1/t"); err != nil {
		t.Errorf("offline sensor-1 is refused: %v\n%s", err, out)
	}
	if out, err := d.publish("sensor-2", "sensor-2", "sensors/sensor-2/t"); err == nil {
		t.Errorf("offline sensor-2 is let in, which no longer belongs to this core:\n%s", out)
	}
	out, code := d.gatehouse("trust", "refresh", "--now")
	if code == 0 || !strings.Contains(out, "the cloud cannot be reached") {
		t.Errorf("away: exit %d\n%s", code, out)
	}
}
