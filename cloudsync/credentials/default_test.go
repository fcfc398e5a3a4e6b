package credentials

import (
	"context"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
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
