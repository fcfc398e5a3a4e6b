package mochi

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors/brokers/client"
	"github.com/gatehouse-edge/gatehouse/actors/brokers/client/clienttest"
)

// lockedBuffer is a log that several goroutines write.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// FuzzPackets feeds a broker whatever an authenticated client may send, before and after
// its CONNECT. Nothing may panic, hang or leave a session behind.
func FuzzPackets(f *testing.F) {
	connect := func(version byte) []byte {
		p := []byte{0x10, 0, 0, 4, 'M', 'Q', 'T', 'T', version, 2, 0, 30}
		if version == 5 {
			p = append(p, 0)
		}
		p = append(p, 0, 8)
		p = append(p, "sensor-1"...)
		p[1] = byte(len(p) - 2)
		return p
	}
	f.Add(byte(5), []byte{0x82, 9, 0, 1, 0, 0, 3, 'a', '/', '#', 1})
	f.Add(byte(4), []byte{0x82, 8, 0, 1, 0, 3, 'a', '/', '#', 1, 0x32, 7, 0, 3, 'a', '/', 'b', 0, 2, 0xe0, 0})
	f.Add(byte(5), []byte{0x33, 9, 0, 3, 'a', '/', 'b', 0, 2, 0, 'x', 0xe0, 1, 4})
	f.Add(byte(5), []byte{0x34, 12, 0, 3, 'a', '/', 'b', 0, 2, 3, 0x23, 0, 1, 'x', 0x62, 2, 0, 2})
	f.Add(byte(0), []byte{0x10, 12, 0, 4, 'M', 'Q', 'T', 'T', 5, 0xff, 0, 0})
	f.Add(byte(0), connect(3))
	f.Add(byte(5), append([]byte{0xf0, 2, 0x19, 0}, connect(5)...))

	desk := clienttest.Start(f, "mqtt")
	device, server := clienttest.Certificate(f, "sensor-1"), clienttest.Certificate(f, "broker")
	desk.Trust("sensor-1", device.Certificate[0])
	desk.SetPolicy(clienttest.Permit("mqtt:connect", "mqtt:clientId:*"),
		clienttest.Permit("mqtt:publish", "mqtt:topic:a/*"), clienttest.Permit("mqtt:subscribe", "mqtt:topicfilter:a/*"))
	c, err := client.Connect(f.Context(), client.Config{Broker: "mqtt", URL: desk.URL()})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = c.Close() })
	var log lockedBuffer
	b, err := New(Config{
		Listen: "127.0.0.1:0", Client: c, Limits: Limits{ConnectTimeout: time.Second},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &server, nil },
		Logger:         slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelError})),
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = b.Close() })
	roots := x509.NewCertPool()
	roots.AddCert(server.Leaf)
	config := &tls.Config{RootCAs: roots, ServerName: "127.0.0.1", Certificates: []tls.Certificate{device}}

	f.Fuzz(func(t *testing.T, version byte, packets []byte) {
		conn, err := tls.Dial("tcp", b.Addr().String(), config)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		if version == 4 || version == 5 {
			packets = append(connect(version), packets...)
		}
		_, _ = conn.Write(packets) // the broker may have hung up already
		_ = conn.CloseWrite()
		if _, err := io.Copy(io.Discard, conn); err != nil && strings.Contains(err.Error(), "i/o timeout") {
			t.Fatalf("the broker holds on to the connection: %x", packets)
		}
		for deadline := time.Now().Add(5 * time.Second); b.Connected() > 0; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("the client is still connected: %x", packets)
			}
		}
		if text := log.String(); strings.Contains(text, "panic") {
			t.Fatalf("%x: %s", packets, text)
		}
	})
}
