package cloudsync

import (
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

func TestCloudAsksThroughItsQueueAndWatchesTheNetwork(t *testing.T) {
	var broken atomic.Bool
	e := newEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
		if broken.Load() {
			panic(http.ErrAbortHandler)
		}
		answerWith(200, `{}`)(w, r)
	}, nil)
	first := make(chan bool, 10)
	c, err := New(Config{DataPlane: e.cfg, Monitor: MonitorConfig{
		OnChange: func(up bool) { first <- up }, DownIntervalMin: 10 * time.Millisecond, DownIntervalMax: 20 * time.Millisecond,
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	changes := make(chan bool, 10)
	c.OnNetworkChange(func(up bool) { changes <- up })
	if err := c.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !<-first || !c.NetworkUp() {
		t.Fatal("the endpoint answers and the network is down")
	}
	_, question := device(t)
	ask := func() messages.CloudAnswer {
		answers := make(chan messages.CloudAnswer, 1)
		if err := c.Ask(question, func(a messages.CloudAnswer) { answers <- a }); err != nil {
			t.Fatal(err)
		}
		return <-answers
	}
	if a := ask(); a.Verdict != messages.CloudConfirmed {
		t.Errorf("got %+v", a)
	}
	broken.Store(true)
	if a := ask(); a.Verdict != messages.CloudSilent {
		t.Errorf("got %+v", a)
	}
	if <-first { // the failed question hastened the probe: nobody waits 30 s for this
		t.Error("told that the network is up, want down")
	}
	broken.Store(false)
	if !<-first || !c.NetworkUp() {
		t.Error("the network did not come back")
	}
	// The listener may or may not have been in time for the first change.
	got := []bool{<-changes, <-changes}
	if got[0] {
		got = []bool{got[1], <-changes}
	}
	if got[0] || !got[1] {
		t.Errorf("listener heard %v, want down and up", got)
	}

	c.Tune(1, 2)
	c.SetOnline(false)
	if c.NetworkUp() {
		t.Error("SetOnline was ignored")
	}
	c.Close()
	if err := c.Ask(question, func(messages.CloudAnswer) { t.Error("answered after Close") }); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestNewCloudRefusesABadConfiguration(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("a cloud without anything was made")
	}
}
