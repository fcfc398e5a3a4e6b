package actors_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/actors/actorstest"
	"github.com/gatehouse-edge/gatehouse/actors/ca"
	"github.com/gatehouse-edge/gatehouse/actors/keys"
	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// needles are the forms in which a private key could show.
func needles(t *testing.T, key crypto.Signer) [][]byte {
	t.Helper()
	var raw []byte
	switch key := key.(type) {
	case *ecdsa.PrivateKey:
		var err error
		if raw, err = key.Bytes(); err != nil {
			t.Fatal(err)
		}
	case *rsa.PrivateKey:
		raw = key.Primes[0].Bytes() // either of them is the whole
	default:
		t.Fatalf("a key of type %T", key)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	list := [][]byte{raw, []byte(hex.EncodeToString(raw)), fmt.Append(nil, raw), []byte(new(big.Int).SetBytes(raw).String())}
	for cut := range 3 { // base64 of the key at each of its alignments
		list = append(list, []byte(base64.StdEncoding.EncodeToString(raw[cut:]))[:36])
	}
	return append(list, []byte(base64.StdEncoding.EncodeToString(der))[40:80])
}

// TestNoPrivateKeyLeaves: keys of an operator, of a managed authority and of subscribers
// are in no event, no log line, no error and no description, when all goes well and when it
// does not (reliability spec C-I3).
func TestNoPrivateKeyLeaves(t *testing.T) {
	for _, caType := range []string{ca.TypeECDSAP256, ca.TypeRSA2048} {
		t.Run(caType, func(t *testing.T) { noPrivateKeyLeaves(t, caType) })
	}
}

func noPrivateKeyLeaves(t *testing.T, caType string) {
	dir := t.TempDir()
	own := selfSigned(t, customTemplate("operator"))
	ownKey := own.Signer.(*ecdsa.PrivateKey)
	write := func(name, block string, der []byte) string {
		t.Helper()
		path := filepath.Join(dir, name)
		text := fmt.Sprintf("-----BEGIN %s-----\n%s\n-----END %[1]s-----\n", block, base64.StdEncoding.EncodeToString(der))
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return "file://" + path
	}
	der, err := x509.MarshalPKCS8PrivateKey(ownKey)
	if err != nil {
		t.Fatal(err)
	}
	good := keys.URIs{Certificate: write("ca.pem", "CERTIFICATE", own.Issuing), PrivateKey: write("ca.key", "PRIVATE KEY", der)}
	bad := []keys.URIs{
		{Certificate: write("other.pem", "CERTIFICATE", selfSigned(t, customTemplate("other")).Issuing), PrivateKey: good.PrivateKey},
		{Certificate: good.PrivateKey, PrivateKey: good.PrivateKey},
		{Certificate: good.Certificate, PrivateKey: write("cut.key", "PRIVATE KEY", der[:len(der)-40])},
		{Certificate: good.Certificate, PrivateKey: write("name.key", "OTHER KEY", der)},
	}

	store, keyDir := keyStore(t)
	memory := eventlog.NewMemory(actorstest.Options(nil))
	var out heardText
	c := newCore(t, memory, store, caType)
	custom := keys.NewCustom(keys.CustomOptions{})
	defer custom.Close()
	c.config.Custom, c.config.Logger = custom, slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	c.config.Uploader = refusing{}
	b := c.mustStart(t)
	made := &subscriber{}
	if _, err := b.authority.Subscribe(t.Context(), made.want("b2", ca.Server)); err != nil {
		t.Fatal(err)
	}
	for _, uris := range append(bad, good) {
		c.settings.Custom = uris
		c.clock.Advance(2 * time.Minute)
		fmt.Fprintln(&out, b.authority.Rotate(t.Context(), "test"))
	}
	c.clock.Advance(8 * 24 * time.Hour)
	if b.Leaf().Issuer.CommonName != "operator" {
		t.Fatalf("the operator's authority is not in use: %s\n%s", b.Leaf().Issuer, out.Bytes())
	}
	c.log.Refuse(eventlog.ErrFull)
	fmt.Fprintln(&out, b.authority.Rotate(t.Context(), "test"))
	b.authority.Close()

	described, err := json.Marshal(b.authority.Describe())
	if err != nil {
		t.Fatal(err)
	}
	out.Write(described)
	fmt.Fprintf(&out, "%v %+v %#v", b.authority.Describe(), b.Held.Describe(), good)
	for rec, err := range memory.Read(t.Context(), messages.StreamCA, 1) {
		if err != nil {
			t.Fatal(err)
		}
		out.Write(rec.Body)
	}
	secret := needles(t, ownKey)
	delivered, _ := made.last(t)
	secret = append(secret, needles(t, delivered.Key)...)
	files, err := filepath.Glob(filepath.Join(keyDir, "ca-*.key"))
	if err != nil || len(files) != 1 {
		t.Fatalf("key files %v: %v", files, err)
	}
	former, err := x509.ParseCertificate(firstCreated(t, memory))
	if err != nil {
		t.Fatal(err)
	}
	signer, err := store.AuthorityKey(former)
	if err != nil {
		t.Fatal(err)
	}
	secret = append(secret, needles(t, signer)...)
	all := out.Bytes()
	for i, needle := range secret {
		if bytes.Contains(all, needle) {
			t.Errorf("form %d of a private key is in what was said", i)
		}
	}
	if !bytes.Contains(all, []byte("cannot be used")) || !bytes.Contains(all, own.Issuing) {
		t.Error("what is looked through does not hold what it should")
	}
}

// firstCreated is the certificate of the first managed authority.
func firstCreated(t *testing.T, memory *eventlog.Memory) []byte {
	t.Helper()
	for rec, err := range memory.Read(t.Context(), messages.StreamCA, 1) {
		if err != nil {
			t.Fatal(err)
		}
		if e, err := messages.DecodeEvent(&rec); err == nil {
			if created, ok := e.(*messages.AuthorityCreated); ok {
				return created.Der
			}
		}
	}
	t.Fatal("no authority was made")
	return nil
}

// refusing is a cloud that takes nothing.
type refusing struct{}

func (refusing) Upload(context.Context, []byte, func([]byte) error) error {
	return errors.New("throttled")
}

var _ actors.Uploader = refusing{}

// heardText gathers what is said, by the test and by what works beside it.
type heardText struct {
	mu   sync.Mutex
	text []byte
}

func (h *heardText) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.text = append(h.text, p...)
	return len(p), nil
}

// Bytes returns what was said so far.
func (h *heardText) Bytes() []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.text)
}
