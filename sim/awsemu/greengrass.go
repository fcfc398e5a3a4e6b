package awsemu

import (
	"errors"
	"fmt"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// The Greengrass control plane's operations on client devices (cloud spec 1.2).

// entriesMax is how many devices one request may name, and one page may hold.
const entriesMax = 100

// epoch is a time as the REST-JSON protocol has it: a number of seconds.
type epoch time.Time

// MarshalJSON implements json.Marshaler.
func (t epoch) MarshalJSON() ([]byte, error) {
	ms := time.Time(t).UnixMilli()
	return fmt.Appendf(nil, "%.3f", float64(ms)/1000), nil
}

type clientDevice struct {
	Thing messages.ThingName `json:"thingName"`
	Since epoch              `json:"associationTimestamp"`
}

type clientDevices struct {
	Devices   []clientDevice `json:"associatedClientDevices"`
	NextToken string         `json:"nextToken,omitempty"`
}

func (e *Emulator) listClientDevices(c *call) (any, *apiError) {
	core, refused := thingParameter(c, "coreDeviceThingName")
	if refused != nil {
		return nil, refused
	}
	p, refused := e.pageOf(c, entriesMax, entriesMax)
	if refused != nil {
		return nil, refused
	}
	found, more, ok := e.registry.associations(core, messages.ThingName(p.after), p.limit)
	if !ok {
		return nil, notFound("CoreDevice", string(core))
	}
	found, next := turn(e, p, found, more, func(a Association) string { return string(a.Thing) })
	answer := clientDevices{Devices: make([]clientDevice, len(found)), NextToken: next}
	for i, a := range found {
		answer.Devices[i] = clientDevice{a.Thing, epoch(a.Since)}
	}
	return answer, nil
}

type clientDeviceEntries struct {
	Entries []struct {
		Thing string `json:"thingName"`
	} `json:"entries"`
}

type errorEntry struct {
	Thing   string `json:"thingName"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

type errorEntries struct {
	Errors []errorEntry `json:"errorEntries"`
}

func (e *Emulator) associateClientDevices(c *call) (any, *apiError) {
	return e.eachEntry(c, func(b *Batch, core, thing messages.ThingName) error { return b.Associate(core, e.now(), thing) })
}

func (e *Emulator) disassociateClientDevices(c *call) (any, *apiError) {
	return e.eachEntry(c, func(b *Batch, core, thing messages.ThingName) error { return b.Disassociate(core, thing) })
}

// eachEntry applies change to every entry and reports those that it failed for.
func (e *Emulator) eachEntry(c *call, change func(b *Batch, core, thing messages.ThingName) error) (any, *apiError) {
	core, refused := thingParameter(c, "coreDeviceThingName")
	if refused != nil {
		return nil, refused
	}
	var request clientDeviceEntries
	if refused := readRequest(c.body, &request); refused != nil {
		return nil, refused
	}
	if n := len(request.Entries); n < 1 || n > entriesMax {
		return nil, validation(fmt.Sprintf("1 validation error detected: Value at 'entries' failed to satisfy constraint: Member must have length between 1 and %d", entriesMax))
	}
	answer := errorEntries{Errors: []errorEntry{}}
	err := e.registry.Update(func(b *Batch) error {
		if _, err := b.core(core); err != nil {
			return err
		}
		for _, entry := range request.Entries {
			thing, err := messages.ParseThingName(entry.Thing)
			if err != nil {
				answer.Errors = append(answer.Errors, errorEntry{entry.Thing, "ValidationException", "thingName is malformed"})
			} else if err := change(b, core, thing); err != nil {
				answer.Errors = append(answer.Errors, errorEntry{entry.Thing, "ResourceNotFoundException", "Thing not found"})
			}
		}
		return nil
	})
	switch {
	case errors.Is(err, ErrNotFound):
		return nil, notFound("CoreDevice", string(core))
	case err != nil:
		return nil, failed(err)
	}
	return answer, nil
}

// thingParameter reads the first parameter of the path as a thing's name.
func thingParameter(c *call, name string) (messages.ThingName, *apiError) {
	thing, err := messages.ParseThingName(c.parameters[0])
	if err != nil {
		return "", invalid(c, fmt.Sprintf("1 validation error detected: Value at '%s' failed to satisfy constraint: Member must be 1 to 128 of [a-zA-Z0-9:_-]", name))
	}
	return thing, nil
}

// invalid refuses a request in its service's words.
func invalid(c *call, message string) *apiError {
	refused := validation(message)
	switch c.op {
	case OpListClientDevices, OpAssociateClientDevice, OpDisassociateClientDevice, OpGetConnectivityInfo, OpUpdateConnectivityInfo:
	default:
		refused.name = "InvalidRequestException"
	}
	return refused
}
