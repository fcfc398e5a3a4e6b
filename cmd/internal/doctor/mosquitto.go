package doctor

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
)

const (
	includesMax  = 100
	listenersMax = 32
)

// mosquitto checks a mosquitto's listeners: the files that `gatehouse cert watch` keeps for
// them, and what they ask of clients.
func (h *Host) mosquitto(context.Context) []Result {
	const name = "mosquitto"
	if h.Mosquitto == "" {
		return []Result{unknown(name, "no mosquitto is named (--mosquitto FILE)")}
	}
	listeners, err := readMosquitto(h.Mosquitto)
	if err != nil {
		return []Result{bad(Failed, name, "mosquitto's configuration", []string{"name it with --mosquitto, and run this as a user who may read it"}, "%v", err)}
	}
	var list []Result
	for _, l := range listeners {
		list = append(list, h.listener(l)...)
	}
	if len(list) == 0 {
		return []Result{bad(Warning, name, "a listener with TLS", []string{"set certfile and keyfile to what `gatehouse cert watch` writes"}, "%s has no listener with a certificate", h.Mosquitto)}
	}
	return list
}

// listener is what of one of mosquitto's matters here.
type listener struct {
	where              string
	certificate, key   string
	requireCertificate bool
}

func (h *Host) listener(l listener) []Result {
	name := "mosquitto." + l.where
	if l.certificate == "" {
		return nil
	}
	text, err := readFile(l.certificate)
	if err != nil {
		return []Result{bad(Failed, name, "certfile", []string{"gatehouse cert watch writes it: see that it runs"}, "%v", err)}
	}
	key, err := readFile(l.key)
	if errors.Is(err, fs.ErrPermission) {
		return []Result{unknown(name, "%v: run this as mosquitto's user, or as root", err)}
	}
	if err != nil {
		return []Result{bad(Failed, name, "keyfile", []string{"gatehouse cert watch makes it: see that it runs"}, "%v", err)}
	}
	pair, err := tls.X509KeyPair(text, key)
	if err != nil {
		return []Result{bad(Failed, name, "a key that is the certificate's", []string{"remove both files, and start `gatehouse cert watch` again"}, "%v", err)}
	}
	list := []Result{h.dates(name+".certificate", l.certificate, pair.Leaf), private(name+".key", l.key, -1, 0o600, Warning)}
	if r := h.chain(name+".chain", pair); r != nil {
		list = append(list, *r)
	}
	if !l.requireCertificate {
		list = append(list, bad(Warning, name+".clients", "require_certificate true", []string{"set it, and use_identity_as_username as your set-up needs"}, "clients without a certificate get as far as the broker"))
	}
	return list
}

// chain checks that the local authorities vouch for a broker's certificate.
func (h *Host) chain(name string, pair tls.Certificate) *Result {
	text, err := readFile(h.authorities())
	if err != nil {
		return nil // another machine's daemon, perhaps
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	for _, der := range pair.Certificate[1:] {
		if c, err := x509.ParseCertificate(der); err == nil {
			between.AddCert(c)
		}
	}
	r := ok(name, "ca.pem vouches for it")
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: h.Now()}); err != nil {
		r = bad(Failed, name, "a certificate that devices can verify by "+h.authorities(), []string{"see that `gatehouse cert watch` runs, and gatehouse ca show"}, "%v", err)
	}
	return &r
}

// readMosquitto reads a configuration file and those that it includes by include_dir.
func readMosquitto(path string) ([]listener, error) {
	text, err := readFile(path)
	if err != nil {
		return nil, err
	}
	all, folders := parseMosquitto(nil, text)
	for _, folder := range folders {
		if !filepath.IsAbs(folder) {
			return nil, fmt.Errorf("include_dir %.200q: want an absolute path", folder)
		}
		names, err := filepath.Glob(filepath.Join(folder, "*.conf"))
		if err != nil {
			return nil, err
		}
		slices.Sort(names)
		for _, name := range names[:min(len(names), includesMax)] {
			text, err := readFile(name)
			if err != nil {
				return nil, err
			}
			all, _ = parseMosquitto(all, text)
		}
	}
	return all, nil
}

// parseMosquitto reads one text: settings belong to the listener before them, and before the
// first to the default one.
func parseMosquitto(all []listener, text []byte) (listeners []listener, folders []string) {
	if len(all) == 0 {
		all = []listener{{where: "default"}}
	}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		word, value, _ := strings.Cut(strings.TrimSpace(lines.Text()), " ")
		value = strings.TrimSpace(value)
		l := &all[len(all)-1]
		switch word {
		case "listener":
			if len(all) < listenersMax {
				port, _, _ := strings.Cut(value, " ")
				all = append(all, listener{where: port})
			}
		case "certfile":
			l.certificate = value
		case "keyfile":
			l.key = value
		case "require_certificate":
			l.requireCertificate = value == "true"
		case "include_dir":
			if len(folders) < includesMax {
				folders = append(folders, value)
			}
		}
	}
	return all, folders
}
