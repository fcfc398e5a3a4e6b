package credentials

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/cloudsync/cloudsynctest"
)

// bare is an environment in which nothing of AWS is set.
func bare(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, entry := range os.Environ() {
		if name, value, _ := strings.Cut(entry, "="); strings.HasPrefix(name, "AWS_") {
			t.Setenv(name, value) // so that it comes back
			if err := os.Unsetenv(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(dir, "config"))
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(dir, "credentials"))
	return dir
}

func key(t *testing.T, o Options) (string, error) {
	t.Helper()
	provider, err := Default(t.Context(), o)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	got, err := provider.Retrieve(ctx)
	return got.AccessKeyID, err
}

func TestCredentialsAreFoundWhereAWSsToolsFindThem(t *testing.T) {
	dir := bare(t)
	if got, err := key(t, Options{}); err == nil {
		t.Errorf("found %q where there is nothing", got)
	}

	// The token exchange service: asked anew by each provider, with the token of the file.
	calls := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls++
		if r.Header.Get("Authorization") != "its-token" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"AccessKeyId":"ASIATES","SecretAccessKey":"s","Token":"t","Expiration":%q}`, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	}))
	defer server.Close()
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte("its-token"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", server.URL+"/2016-11-01/credentialprovider/")
	t.Setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token)
	if got, err := key(t, Options{}); err != nil || got != "ASIATES" || calls != 1 {
		t.Errorf("token exchange: got %q, %v after %d requests", got, err, calls)
	}

	// An installation may have a bundle of authorities for AWS's tools.
	bundle := filepath.Join(dir, "bundle.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cloudsynctest.NewAuthority(t).Issue(t, "x", time.Now()).Certificate[0]})
	if err := os.WriteFile(bundle, text, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_CA_BUNDLE", bundle)
	if got, err := key(t, Options{}); err != nil || got != "ASIATES" {
		t.Errorf("with AWS_CA_BUNDLE: got %q, %v", got, err)
	}

	if err := os.WriteFile(filepath.Join(dir, "credentials"), []byte("[core]\naws_access_key_id = AKIAFILE\naws_secret_access_key = s\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := key(t, Options{Profile: "core"}); err != nil || got != "AKIAFILE" {
		t.Errorf("profile: got %q, %v", got, err)
	}
	if got, err := key(t, Options{Profile: "nobody"}); err == nil || !strings.Contains(err.Error(), "nobody") {
		t.Errorf("a profile that is not there: got %q, %v", got, err)
	}

	t.Setenv("AWS_ACCESS_KEY_ID", "AKIAENV")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "s")
	if got, err := key(t, Options{}); err != nil || got != "AKIAENV" {
		t.Errorf("environment: got %q, %v", got, err)
	}
}

// What the endpoint answers comes from outside, and the SDK crashes on some of it.
func TestAnEndpointThatAnswersNonsenseGivesNoCredentials(t *testing.T) {
	bare(t)
	for name, test := range map[string]struct {
		status      int
		contentType string
		body        string
		want        string
	}{
		"null":                   {200, "application/json", "null", "no credentials"},
		"null as an error":       {400, "application/json", "null", "HTTP 400"},
		"a list":                 {200, "application/json", "[]", "no credentials"},
		"a list as an error":     {400, "application/json", "[1]", "HTTP 400"},
		"nothing":                {200, "application/json", "", "no credentials"},
		"an object of nothing":   {200, "application/json", "{}", "no credentials"},
		"no secret":              {200, "application/json", `{"AccessKeyId":"ASIATES"}`, "no credentials"},
		"two objects":            {200, "application/json", `{"AccessKeyId":"A","SecretAccessKey":"s"}{}`, "no credentials"},
		"a page":                 {200, "text/html", "<html>", "no credentials"},
		"a redirect":             {302, "text/html", "", "HTTP 302"},
		"more than can be":       {200, "application/json", `{"AccessKeyId":"A","SecretAccessKey":"s"` + strings.Repeat(" ", answerBytesMax) + "}", "larger than"},
		"an error without end":   {400, "text/plain", strings.Repeat("x", answerBytesMax+1), "larger than"},
		"an error by its name":   {400, "application/json", `{"code":"NoRole","message":"there is none"}`, "NoRole: there is none"},
		"an error in plain text": {404, "text/plain", "there is none", "there is none"},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", test.contentType)
			w.WriteHeader(test.status)
			_, _ = io.WriteString(w, test.body)
		}))
		t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", server.URL)
		if got, err := key(t, Options{}); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %q, %v; want %q", name, got, err, test.want)
		}
		server.Close()
	}
}

// A device waits meanwhile.
func TestAnEndpointThatHangsIsGivenUp(t *testing.T) {
	bare(t)
	givenUp := make(chan struct{}, 10)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		givenUp <- struct{}{}
	}))
	defer server.Close()
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", server.URL)
	provider, err := Default(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	asking.Go(func() { _, _ = provider.Retrieve(ctx) })
	select {
	case <-givenUp:
	case <-time.After(10 * time.Second):
		t.Error("it is waited for without bound")
	}
	cancel()
	asking.Wait()
}

// FuzzCheck: what passes is within its bound, and no null to the SDK.
func FuzzCheck(f *testing.F) {
	f.Add(200, "application/json", []byte(`{"AccessKeyId":"A","SecretAccessKey":"s"}`))
	f.Add(200, "application/json", []byte(" null"))
	f.Add(400, "application/json", []byte(`{"code":"NoRole"}`))
	f.Add(404, "text/plain", []byte("there is none"))
	f.Fuzz(func(t *testing.T, status int, contentType string, body []byte) {
		if check(status, http.Header{"Content-Type": {contentType}}, body) != nil {
			return
		}
		var object map[string]json.RawMessage
		read := json.Unmarshal(body, &object) == nil && object != nil
		if success := status >= 200 && status <= 299; len(body) > answerBytesMax || !read && (success || contentType == "application/json") {
			t.Errorf("HTTP %d %q %q passed", status, contentType, body)
		}
	})
}
