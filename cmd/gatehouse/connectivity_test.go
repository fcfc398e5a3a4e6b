package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/cmd/internal/daemon"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
)

// awaitName waits until a new handshake with the broker shows name, by an authority of roots.
func (d *dev) awaitName(name string, roots *x509.CertPool) {
	d.t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		conn, err := tls.Dial("tcp", d.mqtt, &tls.Config{RootCAs: roots, ServerName: name})
		if err == nil {
			_ = conn.Close()
			return
		}
		if time.Now().After(end) {
			d.t.Fatalf("the broker does not become %s: %v\n%s", name, err, d.log)
		}
	}
}

func rootsIn(t *testing.T, file string) *x509.CertPool {
	t.Helper()
	roots, err := rootsOf(file)
	if err != nil {
		t.Fatal(err)
	}
	return roots
}

// TestAddressesReachTheBroker: where the cloud says that the core is stands in the broker's
// certificate at the next handshake, and nobody is disconnected. A device discovers core,
// addresses and authority, and needs nothing else to connect.
func TestAddressesReachTheBroker(t *testing.T) {
	need(t, "mosquitto_sub", "stdbuf")
	d := startDev(t, "")
	sub := d.subscribe("sensor-1", "sensors/sensor-1/#")
	session := func() daemon.SessionDetail {
		t.Helper()
		open := answer[daemon.DeviceDetail](d, "device", "show", "sensor-1").Open
		if len(open) != 1 {
			t.Fatalf("sessions of sensor-1: %+v", open)
		}
		return open[0]
	}
	before := session()
	roots := rootsIn(t, filepath.Join(d.dir, "ca.pem"))
	d.awaitName("localhost", roots)

	_, port, _ := net.SplitHostPort(d.mqtt)
	d.must("core.local", "sim", "cloud", "connectivity", "set", "core.local:"+port, "127.0.0.1:"+port)
	d.awaitName("core.local", roots)
	if found := discover(t, d, "sensor-1"); !slices.Equal(found.hosts, []string{"core.local:" + port, "127.0.0.1:" + port}) {
		t.Errorf("sensor-1 discovers %v", found.hosts)
	} else {
		d.awaitName("core.local", found.roots)
	}
	d.must("", "sim", "cloud", "connectivity", "set", "gate.example")
	d.awaitName("gate.example", roots)
	if conn, err := tls.Dial("tcp", d.mqtt, &tls.Config{RootCAs: roots, ServerName: "core.local"}); err == nil {
		_ = conn.Close()
		t.Error("a name that is taken away still stands in the certificate")
	}
	if s := answer[daemon.Status](d, "status"); s.Addresses == nil || !s.Addresses.Connected || s.Addresses.Version == "" {
		t.Errorf("status %+v", s.Addresses)
	}

	if after := session(); after != before || strings.Count(sub.out.String(), "CONNACK") != 1 {
		t.Errorf("the subscriber had to come back: %+v, then %+v\n%s", before, after, sub.out)
	}
	d.must(`"reason":"addresses changed"`, "log", "cat", "--live", "--stream", "core/ca", "--json")
}

// discovered is what Greengrass discovery tells a device.
type discovered struct {
	hosts []string
	roots *x509.CertPool
}

// discover asks the emulated cloud with the device's certificate.
func discover(t *testing.T, d *dev, thing string) discovered {
	t.Helper()
	identity, err := tls.LoadX509KeyPair(filepath.Join(d.dir, "devices", thing, "cert.pem"), filepath.Join(d.dir, "devices", thing, "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{
		Certificates: []tls.Certificate{identity}, RootCAs: rootsIn(t, filepath.Join(d.dir, "cloud", "authority.pem")), ServerName: awsemu.ServerName,
	}}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 10 * time.Second}
	r, err := client.Get(answer[awsemu.ControlInfo](d, "sim", "cloud", "status").Endpoint + "/greengrass/discover/thing/" + thing)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	var answer struct {
		GGGroups []struct {
			Cores []struct {
				Connectivity []struct {
					HostAddress string
					PortNumber  int
				}
			}
			CAs []string
		}
	}
	if err := json.NewDecoder(r.Body).Decode(&answer); err != nil || r.StatusCode != http.StatusOK || len(answer.GGGroups) != 1 || len(answer.GGGroups[0].Cores) != 1 {
		t.Fatalf("%s, %+v, %v", r.Status, answer, err)
	}
	found := discovered{roots: x509.NewCertPool()}
	for _, c := range answer.GGGroups[0].Cores[0].Connectivity {
		found.hosts = append(found.hosts, net.JoinHostPort(c.HostAddress, strconv.Itoa(c.PortNumber)))
	}
	for _, text := range answer.GGGroups[0].CAs {
		found.roots.AppendCertsFromPEM([]byte(text))
	}
	return found
}

// serveFollows: what gatehouse.yaml calls the IoT data endpoint is where a daemon hears of
// addresses, here by ALPN at the data plane's port.
func serveFollows(t *testing.T, s *site, d *dev) {
	t.Helper()
	roots := rootsIn(t, filepath.Join(d.dir, "ca.pem"))
	if _, err := s.registry.SetConnectivity("core-1", time.Now(), awsemu.Connectivity{Host: "gate.example"}); err != nil {
		t.Fatal(err)
	}
	d.awaitName("gate.example", roots)
	ca, err := os.ReadFile(filepath.Join(d.dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	d.log.await(t, "authorities uploaded", 10*time.Second)
	if got := s.registry.Authorities("core-1"); !slices.Equal(got, []string{string(ca)}) {
		t.Errorf("the cloud has the authorities %v", got)
	}
}
