package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
)

// benchCore is the core in the emulated cloud.
const benchCore = "bench-core"

// childEnv names the folder of the emulated cloud to the process that is to be it.
const childEnv = "GATEHOUSE_BENCH_CLOUD"

// whereabouts is where a child serves, and with which keys.
type whereabouts struct{ Data, Control, Key, Secret, Session string }

// seed writes what the emulated cloud needs to know into dir.
func seed(dir string, authority *awsemu.Authority, core *awsemu.Identity, devices []device) error {
	registry := awsemu.NewRegistry()
	if err := registry.Enroll(benchCore, core, true); err != nil {
		return err
	}
	if err := registry.Update(func(u *awsemu.Batch) error {
		var names []messages.ThingName
		for _, d := range devices {
			id, err := u.AddCertificate(d.der, awsemu.StatusActive)
			if err := errors.Join(err, u.AddThing(d.thing), u.Attach(d.thing, id)); err != nil {
				return err
			}
			names = append(names, d.thing)
		}
		return u.Associate(benchCore, time.Now(), names...)
	}); err != nil {
		return err
	}
	text, err := registry.Encode()
	if err != nil {
		return err
	}
	key, err := authority.KeyPEM()
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "registry.json"), text, 0o600),
		os.WriteFile(filepath.Join(dir, "authority.pem"), authority.PEM(), 0o600),
		os.WriteFile(filepath.Join(dir, "authority.key"), key, 0o600))
}

// startChild runs this program once more as the emulated cloud of dir, until stop.
func startChild(dir string) (at whereabouts, stop func(), err error) {
	program, err := os.Executable()
	if err != nil {
		return at, nil, err
	}
	child := exec.Command(program)
	child.Env = append(os.Environ(), childEnv+"="+dir)
	child.Stderr = os.Stderr
	hold, err := child.StdinPipe() // its end is the child's
	if err != nil {
		return at, nil, err
	}
	said, err := child.StdoutPipe()
	if err != nil {
		return at, nil, err
	}
	if err := child.Start(); err != nil {
		return at, nil, err
	}
	stop = func() {
		_ = hold.Close()
		_ = child.Wait()
	}
	line, err := bufio.NewReader(said).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &at)
	}
	if err != nil {
		stop()
		return at, nil, fmt.Errorf("start the emulated cloud: %w", err)
	}
	return at, stop, nil
}

// beCloud is the child: it serves until its standard input ends.
func beCloud(dir string) error {
	registry, err := awsemu.OpenRegistry(filepath.Join(dir, "registry.json"))
	if err != nil {
		return err
	}
	certificate, err := os.ReadFile(filepath.Join(dir, "authority.pem"))
	if err != nil {
		return err
	}
	key, err := os.ReadFile(filepath.Join(dir, "authority.key"))
	if err != nil {
		return err
	}
	authority, err := awsemu.LoadAuthority(certificate, key)
	if err != nil {
		return err
	}
	server, err := authority.IssueServer(awsemu.ServerNames(), time.Now())
	if err != nil {
		return err
	}
	tls, err := server.TLS()
	if err != nil {
		return err
	}
	emulator, err := awsemu.Start(awsemu.Config{Certificate: tls, Registry: registry, Now: time.Now, Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))})
	if err != nil {
		return err
	}
	defer emulator.Close()
	at := whereabouts{Data: emulator.URL(), Control: emulator.ControlURL()}
	at.Key, at.Secret, at.Session = emulator.Credentials()
	if err := json.NewEncoder(os.Stdout).Encode(at); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}
