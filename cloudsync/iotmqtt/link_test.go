package iotmqtt

import (
	"bytes"
	"testing"

	"github.com/eclipse/paho.golang/packets"
)

func TestEndpoints(t *testing.T) {
	for given, want := range map[string]string{"a.example": "a.example 8883", "a.example:443": "a.example 443", "[::1]:8883": "::1 8883", "127.0.0.1": "127.0.0.1 8883"} {
		if host, port, err := splitEndpoint(given); err != nil || host+" "+port != want {
			t.Errorf("%s: %s %s, %v", given, host, port, err)
		}
	}
}

// FuzzPackets: no bytes of a server make the library panic, or make room for more than is
// allowed.
func FuzzPackets(f *testing.F) {
	f.Add([]byte{0x20, 3, 0, 0, 0})
	f.Add([]byte{0x30, 5, 0, 1, 'a', 0, 'x'})
	f.Add([]byte{0x90, 4, 0, 1, 0, 0x87})
	f.Add([]byte{0x32, 0xff, 0xff, 0xff, 0x7f})
	f.Add([]byte{0xe0, 0})
	f.Fuzz(func(t *testing.T, stream []byte) {
		var fr frame
		for i := range stream { // as Read would, byte by byte, to know where it stops
			if fr.pass(stream[i:i+1], 1<<10) != nil {
				stream = stream[:i]
				break
			}
		}
		r := bytes.NewReader(stream)
		for {
			before := r.Len()
			if _, err := packets.ReadPacket(r); err != nil {
				return
			}
			if read := before - r.Len(); read > 1<<10+5 {
				t.Fatalf("a packet of %d bytes", read)
			}
		}
	})
}

func TestFramesAreBounded(t *testing.T) {
	for name, c := range map[string]struct {
		stream []byte
		good   bool
	}{
		"two packets":     {[]byte{0xd0, 0, 0x30, 3, 1, 2, 3, 0xd0, 0}, true},
		"as long as may":  {append([]byte{0x30, 0x80, 1}, make([]byte, 128)...), true},
		"longer":          {[]byte{0x30, 0x81, 1}, false},
		"endless length":  {[]byte{0x30, 0x80, 0x80, 0x80, 0x80, 0}, false},
		"longer, later":   {[]byte{0xd0, 0, 0x30, 0xff, 0xff, 0x03}, false},
		"half a header":   {[]byte{0x30}, true},
		"half a length":   {[]byte{0x30, 0x80}, true},
		"nothing follows": {[]byte{0x30, 4, 1}, true},
	} {
		for step := 1; step <= len(c.stream); step++ {
			var f frame
			var err error
			for rest := c.stream; len(rest) > 0 && err == nil; rest = rest[min(step, len(rest)):] {
				err = f.pass(rest[:min(step, len(rest))], 128)
			}
			if (err == nil) != c.good {
				t.Errorf("%s in steps of %d: %v", name, step, err)
			}
		}
	}
}
