package main

import (
	"os"
	"testing"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// TestMain makes the test's own program a node where it is started as one.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == nodeArgument {
		os.Exit(runNode(os.Args[2]))
	}
	os.Exit(m.Run())
}

func newTestCampaign(t *testing.T) *campaign {
	t.Helper()
	c, err := newCampaign(t.Context(), "") // a daemon's sockets want a short path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(c.dir); err != nil {
			t.Error(err)
		}
	})
	c.say = t.Logf
	return c
}

// TestEveryKindHasARecipe: a new kind of event is crashed, too. What a recipe does is one
// event of its kind, and doing it again is none, or changes nothing.
func TestEveryKindHasARecipe(t *testing.T) {
	for _, kind := range kinds() {
		if _, ok := recipes[kind]; !ok {
			t.Errorf("%s has no recipe: say in recipelist.go by which command it comes about", kind)
		}
		if _, err := sample(kind, 1); err != nil {
			t.Error(err)
		}
	}
	c := newTestCampaign(t)
	cfg, err := c.config("recipes", true)
	if err != nil {
		t.Fatal(err)
	}
	l, err := c.begin(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.kill)
	for n, kind := range kinds() {
		s, err := l.ask(order{Op: "do", Kind: kind, N: n + 1, Request: kind.String(), Die: pointSnapshot + "?"}, "done")
		if err != nil {
			t.Fatal(kind, err)
		}
		made := map[messages.Kind]int{}
		for _, a := range s.Acks {
			made[a.Kind]++
		}
		if s.Error != "" || made[kind] != 1 {
			t.Errorf("%s: made %v, %s %s", kind, made, s.Reply, s.Error)
		}
	}
	if err := l.end(); err != nil {
		t.Error(err)
	}
}
