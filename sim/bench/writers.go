package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// streamsPerWriter spreads each writer's events over so many devices.
const streamsPerWriter = 32

// opened makes the event that opens the n-th session of a device: the most frequent one
// there is, as it is in the log.
func opened(device, n int) (stream messages.StreamID, e messages.Event) {
	thing := fmt.Sprintf("pump-%05d", device)
	seed := binary.BigEndian.AppendUint64([]byte(thing), uint64(n))
	digest := sha256.Sum256(seed)
	return messages.DeviceStream(messages.ThingName(thing)), &messages.SessionOpened{
		Session: digest[:], CertificateId: string(messages.CertificateIDOf([]byte(thing))), Broker: string(brokerName), Source: messages.Source_SOURCE_LOCAL,
	}
}

// prepared is what one writer writes, made beforehand: both sides are given the same
// bytes, and neither pays for making them up.
type prepared struct {
	stream messages.StreamID
	body   []byte
	schema uint8
}

func prepare() ([inFlight][streamsPerWriter]prepared, error) {
	var all [inFlight][streamsPerWriter]prepared
	for w := range all {
		for k := range all[w] {
			stream, e := opened(w*streamsPerWriter+k, 0)
			body, schema, err := messages.EncodeEvent(e)
			if err != nil {
				return all, err
			}
			all[w][k] = prepared{stream, body, schema}
		}
	}
	return all, nil
}

// record is p as the n-th of its stream.
func (p *prepared) record(seq, n uint64) messages.Record {
	var id messages.EventID
	binary.BigEndian.PutUint64(id[:], seq)
	binary.BigEndian.PutUint64(id[8:], n)
	now := time.Now().UnixMilli()
	return messages.Record{
		Seq: seq, Stream: p.stream, Version: n, ID: id, Kind: messages.KindSessionOpened, Schema: p.schema,
		At: messages.Instant{TrustMs: now, WallMs: now}, Cause: messages.Cause{Request: "bench-1", Broker: brokerName}, Body: p.body,
	}
}

// write has inFlight writers call put for d. put gets the writer's number and how many it
// has written in this round.
func write(ctx context.Context, d time.Duration, put func(w, i int) error) (sample, error) {
	return work(ctx, d, func(w, i int) (time.Time, error) {
		err := put(w, i)
		return time.Now(), err
	})
}
