package awsemu

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// What the operations of IoT's control plane have in common: reading requests, refusing
// with IoT's own errors (cloud spec 4.1), changing the registry.

func iotError(status int, name, message string) *apiError {
	return &apiError{status: status, name: name, message: message}
}

func badRequest(message string) *apiError {
	return iotError(http.StatusBadRequest, "InvalidRequestException", message)
}

func noResource(message string) *apiError {
	return iotError(http.StatusNotFound, "ResourceNotFoundException", message)
}

func limitExceeded(message string) *apiError {
	return iotError(http.StatusGone, "LimitExceededException", message)
}

func versionConflict(message string) *apiError {
	return iotError(http.StatusConflict, "VersionConflictException", message)
}

func deleteConflict(message string) *apiError {
	return iotError(http.StatusConflict, "DeleteConflictException", message)
}

// alreadyExists names the resource, as AWS does, so that a caller can go on with it.
func alreadyExists(message, id, arn string) *apiError {
	refused := iotError(http.StatusConflict, "ResourceAlreadyExistsException", message)
	refused.body = map[string]string{"message": message, "resourceId": id, "resourceArn": arn}
	return refused
}

// constraint refuses a value in the words of AWS's validation.
func constraint(member, want string) *apiError {
	return badRequest(fmt.Sprintf("1 validation error detected: Value at '%s' failed to satisfy constraint: %s", member, want))
}

func iotFailed(err error) *apiError {
	return iotError(http.StatusInternalServerError, "InternalFailureException", err.Error())
}

// readIoT reads a request's body, which may be absent.
func readIoT(c *call, into any) *apiError {
	if len(c.body) == 0 {
		return nil
	}
	refused := readRequest(c.body, into)
	if refused == nil {
		return nil
	}
	var typed *json.UnmarshalTypeError
	if err := json.Unmarshal(c.body, into); errors.As(err, &typed) {
		return badRequest(fmt.Sprintf("member %.80q is of the wrong type", typed.Field))
	}
	return refused
}

// flag reads a boolean of the query; absent is false.
func (c *call) flag(name string) (bool, *apiError) {
	switch c.query.Get(name) {
	case "", "false":
		return false, nil
	case "true":
		return true, nil
	}
	return false, constraint(name, "Member must be true or false")
}

// flags reads several; the first that is none is refused.
func (c *call) flags(into map[string]*bool) (refused *apiError) {
	for name, value := range into {
		if *value, refused = c.flag(name); refused != nil {
			return refused
		}
	}
	return nil
}

// integer reads a number of the query; ok is false if it is absent.
func (c *call) integer(name string) (n int, ok bool, refused *apiError) {
	if !c.query.Has(name) {
		return 0, false, nil
	}
	n, err := strconv.Atoi(c.query.Get(name))
	if err != nil {
		return 0, false, constraint(name, "Member must be a number")
	}
	return n, true, nil
}

var errRefused = errors.New("refused")

// change makes changes that happen together, or none if f refuses.
func (e *Emulator) change(f func(*Batch) *apiError) *apiError {
	var refused *apiError
	err := e.registry.Update(func(b *Batch) error {
		if refused = f(b); refused != nil {
			return errRefused
		}
		return nil
	})
	if refused == nil && err != nil {
		return iotFailed(err)
	}
	return refused
}

// look reads the registry. f must not change it, and copies what it keeps.
func (e *Emulator) look(f func(*Registry) *apiError) *apiError {
	e.registry.mu.RLock()
	defer e.registry.mu.RUnlock()
	return f(e.registry)
}

// put sets m[key] within a batch; a nil value deletes it.
func put[K comparable, V any](b *Batch, m map[K]*V, key K, value *V) {
	before, known := m[key]
	if value == nil {
		delete(m, key)
	} else {
		m[key] = value
	}
	b.undo = append(b.undo, func() {
		if known {
			m[key] = before
		} else {
			delete(m, key)
		}
	})
}

// set sets a field within a batch.
func set[T any](b *Batch, field *T, value T) {
	before := *field
	*field = value
	b.undo = append(b.undo, func() { *field = before })
}

// stamp is a time as the registry keeps it.
func stamp(at time.Time) time.Time { return at.UTC().Truncate(time.Millisecond) }

// none is the answer of operations that answer nothing.
type none struct{}
