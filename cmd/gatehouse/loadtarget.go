package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors/brokers"
	"github.com/gatehouse-edge/gatehouse/actors/brokers/admin"
	"github.com/gatehouse-edge/gatehouse/actors/brokers/client"
	"github.com/gatehouse-edge/gatehouse/cmd/internal/daemon"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
	"github.com/gatehouse-edge/gatehouse/sim/load"
)

// loadTarget says whom `sim load` asks, and as whom.
type loadTarget struct {
	nats        string
	credentials []string
	mqtt        bool
	address, ca string
}

// credentialsMaxBytes bounds a broker's credentials; real ones have about 1 KiB.
const credentialsMaxBytes = 16 << 10

// reach connects to what is to be asked, and says in words what that is.
func (a *app) reach(ctx context.Context, t *loadTarget, mix *load.Mix) (load.Driver, string, error) {
	var run daemon.Run
	var err error
	if t.mqtt && t.address == "" || !t.mqtt && t.nats == "" {
		dir, err := a.needDir()
		if err != nil {
			return nil, "", fmt.Errorf("%w; or say whom to ask: --nats and --credentials, or --mqtt and --address", err)
		}
		if run, err = daemon.ReadRun(dir); err != nil {
			return nil, "", fmt.Errorf("%w in %s: %w", errNotRunning, dir, err)
		}
	}
	if t.mqtt {
		return a.reachMQTT(t, run, mix)
	}
	cfg := load.NATSConfig{URL: firstOf(t.nats, run.NATS), Timeout: time.Duration(mix.Timeout)}
	if t.ca != "" {
		if cfg.TLS, err = trusting(t.ca); err != nil {
			return nil, "", err
		}
	}
	if cfg.Brokers, err = a.loadBrokers(ctx, t, mix); err != nil {
		return nil, "", err
	}
	mix.Brokers = len(cfg.Brokers)
	driver, err := load.DialNATS(ctx, cfg)
	if err != nil {
		return nil, "", err
	}
	return driver, "NATS at " + client.RedactURLs(cfg.URL), nil
}

func trusting(file string) (*tls.Config, error) {
	roots, err := rootsOf(file)
	if err != nil {
		return nil, err
	}
	return &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, nil
}

func (a *app) reachMQTT(t *loadTarget, run daemon.Run, mix *load.Mix) (load.Driver, string, error) {
	address := t.address
	if address == "" {
		host, port, err := net.SplitHostPort(run.MQTT)
		if err != nil {
			return nil, "", fmt.Errorf("the Gatehouse in %s has no MQTT broker: name one with --address", a.dir)
		}
		if ip := net.ParseIP(host); ip.IsUnspecified() || ip.IsLoopback() {
			host = "localhost"
		}
		address = net.JoinHostPort(host, port)
	}
	file := t.ca
	if file == "" && a.dir != "" && t.address == "" {
		file = filepath.Join(a.dir, "ca.pem")
	}
	var roots *x509.CertPool
	if file != "" {
		var err error
		if roots, err = rootsOf(file); err != nil {
			return nil, "", err
		}
	}
	driver, err := load.NewMQTT(load.MQTTConfig{Address: address, Roots: roots, Timeout: time.Duration(mix.Timeout)})
	return driver, "MQTT at " + address, err
}

// loadBrokers reads the brokers' credentials. At a `gatehouse dev` those that are missing are
// made.
func (a *app) loadBrokers(ctx context.Context, t *loadTarget, mix *load.Mix) ([]load.Broker, error) {
	if len(t.credentials) > 0 {
		return readBrokers(t.credentials)
	}
	dir, err := a.needDir()
	if err != nil {
		return nil, errors.New("as which brokers? name their credentials with --credentials")
	}
	names := brokerNames(mix.Brokers)
	var list []load.Broker
	for _, name := range names {
		b, err := readBroker(daemon.CredsFile(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			if !isDevDir(dir) {
				return nil, fmt.Errorf("%s has no credentials of broker %s; make them all with one command: gatehouse broker add load-{1..%d} --dir %[1]s", dir, name, mix.Brokers)
			}
			if err := a.ask(ctx, daemon.OpBrokerAdd, daemon.BrokerRequest{Name: messages.BrokerID(name)}, &daemon.BrokerAdded{}); err != nil {
				return nil, err
			}
			b, err = readBroker(daemon.CredsFile(dir, name))
		}
		if err != nil {
			return nil, err
		}
		list = append(list, b)
	}
	return list, nil
}

// readBrokers reads files of credentials, and folders of them.
func readBrokers(paths []string) ([]load.Broker, error) {
	var list []load.Broker
	for _, path := range paths {
		files := []string{path}
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			if files, err = filepath.Glob(filepath.Join(path, "*.creds")); err != nil {
				return nil, err
			}
		}
		for _, file := range files {
			b, err := readBroker(file)
			if err != nil {
				return nil, err
			}
			if _, err := authapi.ParseBroker(string(b.Name)); err != nil && len(files) > 1 {
				continue // an operator's, in the folder of brokers
			}
			list = append(list, b)
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("no credentials in %s", strings.Join(paths, ", "))
	}
	return list, nil
}

// readBroker reads credentials, which say whose they are: else the file's name does.
func readBroker(file string) (load.Broker, error) {
	text, err := readFile(file, credentialsMaxBytes)
	if err != nil {
		return load.Broker{}, err
	}
	c, err := brokers.ParseCredentials(text)
	if err != nil {
		return load.Broker{}, fmt.Errorf("%s: %w", file, err)
	}
	name := c.Name
	if name == "" {
		name = strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))
	}
	return load.Broker{Name: messages.BrokerID(name), Credentials: text}, nil
}

// loadOperator quarantines and releases devices at a running daemon.
type loadOperator struct{ client *admin.Client }

// operator connects as the administrator of the directory; nil without a directory.
func (a *app) operator() (*loadOperator, error) {
	if a.dir == "" {
		return nil, nil
	}
	c, err := a.dial()
	if err != nil {
		return nil, err
	}
	return &loadOperator{c}, nil
}

// Quarantine implements load.Operator.
func (o *loadOperator) Quarantine(ctx context.Context, thing messages.ThingName) error {
	return o.client.Ask(ctx, daemon.OpQuarantine, daemon.DeviceRequest{Thing: thing, Reason: "gatehouse sim load"}, &daemon.Done{})
}

// Release implements load.Operator.
func (o *loadOperator) Release(ctx context.Context, thing messages.ThingName) error {
	return o.client.Ask(ctx, daemon.OpRelease, daemon.DeviceRequest{Thing: thing, Reason: "gatehouse sim load"}, &daemon.Done{})
}
