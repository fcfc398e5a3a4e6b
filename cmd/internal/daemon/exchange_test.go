package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/cloudsync/tokenexchange"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// roleSource gives out what it is told to, in the order asked.
type roleSource chan *tokenexchange.Failure

func (s roleSource) Fetch(ctx context.Context) (tokenexchange.Fetched, *tokenexchange.Failure) {
	select {
	case failure := <-s:
		return tokenexchange.Fetched{
			Credentials: tokenexchange.Credentials{AccessKeyID: "ASIA1", SecretAccessKey: "needle", SessionToken: "needle", Expiration: time.Now().Add(time.Hour).UTC()},
			Lifetime:    time.Hour,
		}, failure
	case <-ctx.Done():
		return tokenexchange.Fetched{}, &tokenexchange.Failure{Message: "given up"}
	}
}

func (roleSource) Close() {}

func exchange(t *testing.T, source tokenexchange.Source) *tokenexchange.Exchange {
	t.Helper()
	clock, err := actors.NewSystemClock()
	if err != nil {
		t.Fatal(err)
	}
	cache, err := tokenexchange.NewCache(tokenexchange.CacheConfig{Source: source, Clock: clock, Chance: func() float64 { return 0 }})
	if err != nil {
		t.Fatal(err)
	}
	return tokenexchange.NewExchange(cache, clock, "alias")
}

// TestCredentials: a cloud that says nothing does not hold up the start; what becomes of the
// role's credentials is in the log, the status, the report and the metrics, without a secret.
func TestCredentials(t *testing.T) {
	dir, source := t.TempDir(), make(roleSource)
	d := startDaemon(t, dir, Config{TokenExchange: &TokenExchange{
		Exchange: exchange(t, source), Endpoint: "here", Consumers: []tokenexchange.Consumer{{Name: "app", UID: os.Geteuid()}}, Listen: "127.0.0.1:0", Region: "eu-central-1",
	}})
	token, err := os.ReadFile(filepath.Join(ConsumersDir(dir), "app", "token"))
	if err != nil {
		t.Fatal(err)
	}
	ask := func(token string) string {
		t.Helper()
		r, err := http.NewRequest("GET", d.credentials.URL(), nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", token)
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	source <- &tokenexchange.Failure{Status: 403, Code: "AccessDeniedException", Message: "Invalid thing name passed"}
	if got := ask(string(token)); !strings.Contains(got, "Invalid thing name passed") {
		t.Errorf("the cloud said no: %s", got)
	}
	s, err := d.status(t.Context(), struct{}{})
	if err != nil || s.Credentials == nil || s.Credentials.AccessKeyID != "" || !strings.Contains(fmt.Sprint(s.Warnings), "no credentials of role alias alias") {
		t.Errorf("status %+v, %v", s, err)
	}
	if m := d.credentialMetrics(); m.Left != 0 || m.Fetches["refused"] != 1 || m.HandOuts != 0 {
		t.Errorf("metrics %+v", m)
	}
	if got := ask("another"); !strings.Contains(got, "InvalidToken") {
		t.Errorf("another token: %s", got)
	}
	d.Close()

	// Its successor is told the same token, and gets credentials.
	d = startDaemon(t, dir, Config{TokenExchange: &TokenExchange{
		Exchange: exchange(t, source), Consumers: []tokenexchange.Consumer{{Name: "app", UID: os.Geteuid()}}, Listen: "127.0.0.1:0", Region: "eu-central-1",
	}})
	source <- nil
	for range 3 {
		if got := ask(string(token)); !strings.Contains(got, `"AccessKeyId":"ASIA1"`) {
			t.Fatalf("got %s", got)
		}
	}
	if c, err := d.cfg.TokenExchange.Exchange.HandOut(t.Context(), tokenexchange.Own); err != nil || c.AccessKeyID != "ASIA1" {
		t.Errorf("the daemon itself: %v, %v", c, err)
	}
	r, err := d.credentialsReport(t.Context(), struct{}{})
	if err != nil || r.AccessKeyID != "ASIA1" || r.Problem != "" || len(r.Consumers) != 2 || r.Consumers[0].HandOuts != 3 || r.Consumers[0].Until == nil || r.Consumers[1].Consumer != tokenexchange.Own {
		t.Errorf("report %+v, %v", r, err)
	}
	if m := d.credentialMetrics(); m.Left < 59*time.Minute || m.Fetches["granted"] != 1 || m.HandOuts != 4 {
		t.Errorf("metrics %+v", m)
	}
	text, err := json.Marshal(r)
	if err != nil || strings.Contains(string(text), "needle") || strings.Contains(string(text), string(token)) {
		t.Errorf("a secret in %s, %v", text, err)
	}
	d.Close()

	stored, err := OpenStored(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer stored.Log.Close()
	last, err := StoredCredentials(t.Context(), stored)
	if err != nil || last.RoleAlias != "alias" || len(last.Consumers) != 2 || last.Consumers[0].Consumer != "app" || last.Consumers[0].HandOuts != 1 || last.Consumers[0].AccessKeyID != "ASIA1" {
		t.Errorf("by the log: %+v, %v", last, err)
	}
	denials := 0
	for rec, err := range stored.Log.Read(t.Context(), messages.StreamStrangers, 1) {
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(rec.Body), string(token)) || strings.Contains(string(rec.Body), "needle") {
			t.Errorf("a secret in record %d", rec.Seq)
		}
		denials++
	}
	if denials != 1 {
		t.Errorf("%d denials on record, want that of the wrong token", denials)
	}
}

// TestNoConsumerKeepsAToken: who is taken from the consumers, be it the last, gets another token
// if it is put back.
func TestNoConsumerKeepsAToken(t *testing.T) {
	dir := t.TempDir()
	start := func(consumers ...tokenexchange.Consumer) {
		t.Helper()
		startDaemon(t, dir, Config{TokenExchange: &TokenExchange{Exchange: exchange(t, make(roleSource)), Consumers: consumers, Listen: "127.0.0.1:0"}}).Close()
	}
	token := func() string {
		text, _ := os.ReadFile(filepath.Join(ConsumersDir(dir), "app", "token")) // "": there is none
		return string(text)
	}
	app := tokenexchange.Consumer{Name: "app", UID: os.Geteuid()}
	for name, without := range map[string]func(){"no consumer": func() { start() }, "no role": func() { startDaemon(t, dir, Config{}).Close() }} {
		start(app)
		before := token()
		without()
		if before == "" || token() != "" {
			t.Errorf("%s: the token was %d bytes, and is %d", name, len(before), len(token()))
		}
		if start(app); token() == before || token() == "" {
			t.Errorf("%s: the former token is good again", name)
		}
	}
}

// TestNoRoleNoCredentials: who names no role finds nothing of it.
func TestNoRoleNoCredentials(t *testing.T) {
	d := startDaemon(t, t.TempDir(), Config{})
	r, err := d.credentialsReport(t.Context(), struct{}{})
	if err != nil || r.RoleAlias != "" || d.credentialsNow() != nil || d.credentialMetrics() != nil {
		t.Errorf("%+v, %v", r, err)
	}
}
