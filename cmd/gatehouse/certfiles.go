package main

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/gatehouse-edge/gatehouse/cmd/internal/daemon"
)

// check finds what cannot work, or would overwrite what is not its own, before anything is
// asked.
func (w *watched) check() error {
	if err := w.checkDistinct(); err != nil {
		return err
	}
	for _, file := range []flagged{{"--certificate", w.certificate}, {"--key", w.key}, {"--trust", w.trust}} {
		if file.path == "" {
			continue
		}
		folder := filepath.Dir(file.path)
		if info, err := os.Stat(folder); err != nil || !info.IsDir() {
			return fmt.Errorf("%s %s: there is no folder %s; make it first", file.flag, file.path, folder)
		}
		if info, err := os.Stat(file.path); err == nil && !info.Mode().IsRegular() {
			return fmt.Errorf("%s %s: not a file", file.flag, file.path)
		}
	}
	if err := mayReplace(w.certificate, false); err != nil {
		return fmt.Errorf("--certificate: %w", err)
	}
	if err := mayReplace(w.trust, true); err != nil {
		return fmt.Errorf("--trust: %w", err)
	}
	return nil
}

// flagged is the file that a flag names.
type flagged struct{ flag, path string }

// checkDistinct refuses flags that name the same file, be it by links.
func (w *watched) checkDistinct() error {
	files := []flagged{{"--certificate", w.certificate}, {"--key", w.key}, {"--trust", w.trust}, {"--credentials", w.credentials}, {"--url-ca", w.ca}}
	for i, one := range files {
		for _, other := range files[:i] {
			if one.path != "" && other.path != "" && sameFile(one.path, other.path) {
				return &exitError{exitUsage, fmt.Errorf("%s and %s are the same file", other.flag, one.flag)}
			}
		}
	}
	return nil
}

func sameFile(a, b string) bool {
	same := func(a, b string) bool {
		one, err1 := os.Stat(a)
		other, err2 := os.Stat(b)
		return err1 == nil && err2 == nil && os.SameFile(one, other)
	}
	return same(a, b) || filepath.Base(a) == filepath.Base(b) && same(filepath.Dir(a), filepath.Dir(b))
}

// mayReplace says whether what stands in a file is of the kind to be written there:
// certificates of authorities, or one with those above it. So neither ca.pem becomes a
// server's, nor the other way round.
func mayReplace(file string, authorities bool) error {
	der, err := former(file)
	if der == nil || err != nil {
		return err
	}
	first, err := x509.ParseCertificate(der)
	if err != nil {
		return fmt.Errorf("%s holds a damaged certificate, and is not overwritten: name another file, or remove it: %w", file, err)
	}
	switch authority := first.IsCA || bytes.Equal(first.RawSubject, first.RawIssuer); {
	case authority && !authorities:
		return fmt.Errorf("%s holds certificates of authorities, and is not overwritten by a server's: name another file, or remove it", file)
	case !authority && authorities:
		return fmt.Errorf("%s holds the certificate of %q, no authority's, and is not overwritten: name another file, or remove it", file, first.Subject)
	}
	return nil
}

// replace writes a file unless it holds text already, or what is not its own.
func replace(path string, text []byte, authorities bool) error {
	if former, err := readWatched(path); err == nil && bytes.Equal(former, text) {
		return nil
	}
	if err := mayReplace(path, authorities); err != nil {
		return err
	}
	return daemon.WriteFile(path, text, 0o644)
}

// readKey reads the key, or makes one. fresh is its text if it is not in the file yet.
func (w *watched) readKey() (key crypto.Signer, fresh []byte, err error) {
	text, err := readWatched(w.key)
	if errors.Is(err, fs.ErrNotExist) {
		made, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, nil, err
		}
		der, err := x509.MarshalPKCS8PrivateKey(made)
		return made, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), err
	}
	if err != nil {
		return nil, nil, fmt.Errorf("--key: %w", err)
	}
	info, err := os.Stat(w.key)
	if err != nil {
		return nil, nil, fmt.Errorf("--key: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o037 != 0 {
		return nil, nil, fmt.Errorf("--key %s: mode %04o lets others at it; see who has read it, then chmod 600 %[1]s, or remove it for another", w.key, mode)
	}
	key, err = parseKey(text)
	if err != nil { // nothing of the text: it may be half a key
		return nil, nil, fmt.Errorf("--key %s: no private key in PEM that is not encrypted; remove it, and one is made", w.key)
	}
	return key, nil, nil
}

// keepKey puts a key that was made into its file, unless another has come to be there: that may
// be all there is of it.
func (w *watched) keepKey(text []byte) error {
	folder := filepath.Dir(w.key)
	tmp, err := os.CreateTemp(folder, ".tmp-*") // mode 0600
	if err != nil {
		return fmt.Errorf("--key: %w", err)
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	_, err = tmp.Write(text)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err == nil {
		err = os.Link(tmp.Name(), w.key)
	}
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("--key %s: it has come to be while another was made; start again to use it, or remove it, if it is a link to nowhere", w.key)
	} else if err != nil {
		return fmt.Errorf("--key: %w", err)
	}
	dir, err := os.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func parseKey(text []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("no PEM")
	}
	switch block.Type {
	case "EC PRIVATE KEY":
		return x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		return x509.ParsePKCS1PrivateKey(block.Bytes)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a %T cannot sign", key)
	}
	return signer, nil
}

func readWatched(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, watchedMaxBytes+1))
	if err == nil && len(text) > watchedMaxBytes {
		err = fmt.Errorf("%s: more than %d bytes", path, watchedMaxBytes)
	}
	return text, err
}
