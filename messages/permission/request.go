package permission

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A Request is a checked pair of operation and resource. Make it with ParseRequest.
type Request struct {
	operation string // "service:action"
	service   string // the part of operation before the colon
	resource  string // "service:type:name"
}

// Operation returns the request's operation as it was given.
func (r Request) Operation() string { return r.operation }

// Service returns the service that operation and resource share.
func (r Request) Service() string { return r.service }

// Resource returns the request's resource as it was given.
func (r Request) Resource() string { return r.resource }

// The reasons to deny a request unjudged are made once: strangers can ask for them as
// often as they like.
var (
	errOperationLength  = malformed("operation is longer than %d bytes", MaxOperationBytes)
	errOperationColon   = malformed("operation has no ':', want service:action")
	errOperationService = malformed("operation's service must be one or more letters")
	errOperationAction  = malformed("operation's action must be one or more letters, digits, '-' or '_'")
	errResourceLength   = malformed("resource is longer than %d bytes", MaxResourceBytes)
	errResourceColons   = malformed("resource has fewer than two ':', want service:type:name")
	errResourceService  = malformed("resource's service must be one or more letters")
	errResourceType     = malformed("resource's type must be one or more letters")
	errResourceNoName   = malformed("resource's name is empty")
	errResourceName     = malformed("resource's name holds a control character, a symbol outside ASCII or invalid UTF-8")
)

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// ParseRequest checks operation and resource (client-device-auth spec 3, rules 1 to 4).
// Its error wraps ErrMalformed, which is a deny, or is ErrServiceMismatch, which is a
// failure. The Request keeps both strings.
func ParseRequest(operation, resource string) (Request, error) {
	service, err := operationService(operation)
	if err != nil {
		return Request{}, err
	}
	resourceService, err := resourceService(resource)
	if err != nil {
		return Request{}, err
	}
	if service != resourceService {
		return Request{}, ErrServiceMismatch
	}
	return Request{operation: operation, service: service, resource: resource}, nil
}

// CheckOperation says whether a request with this operation could be well formed; the
// error wraps ErrMalformed.
func CheckOperation(operation string) error {
	_, err := operationService(operation)
	return err
}

// CheckResource says whether a request with this resource could be well formed; the
// error wraps ErrMalformed.
func CheckResource(resource string) error {
	_, err := resourceService(resource)
	return err
}

// operationService checks rule 1, "service:action", and returns the service.
func operationService(s string) (string, error) {
	if len(s) > MaxOperationBytes {
		return "", errOperationLength
	}
	service, action, found := strings.Cut(s, ":")
	switch {
	case !found:
		return "", errOperationColon
	case !isLetters(service):
		return "", errOperationService
	case !isAction(action):
		return "", errOperationAction
	}
	return service, nil
}

// resourceService checks rule 2, "service:type:name", and returns the service. The name
// may hold further colons.
func resourceService(s string) (string, error) {
	if len(s) > MaxResourceBytes {
		return "", errResourceLength
	}
	service, rest, found := strings.Cut(s, ":")
	if !found {
		return "", errResourceColons
	}
	kind, name, found := strings.Cut(rest, ":")
	switch {
	case !found:
		return "", errResourceColons
	case !isLetters(service):
		return "", errResourceService
	case !isLetters(kind):
		return "", errResourceType
	case name == "":
		return "", errResourceNoName
	case !isName(name):
		return "", errResourceName
	}
	return service, nil
}

func isLetters(s string) bool {
	for i := range len(s) {
		if c := s[i] | 0x20; c < 'a' || c > 'z' {
			return isEveryRune(s[i:], unicode.IsLetter)
		}
	}
	return s != ""
}

func isAction(s string) bool {
	for i := range len(s) {
		c := s[i]
		if lower := c | 0x20; (lower < 'a' || lower > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return isEveryRune(s[i:], isActionRune)
		}
	}
	return s != ""
}

func isActionRune(r rune) bool {
	return unicode.IsLetter(r) || unicode.IsDigit(r) || r == '-' || r == '_'
}

// isName reads eight bytes at a time for as long as they are printable ASCII.
func isName(s string) bool {
	const (
		ones  = 0x0101010101010101
		highs = 0x8080808080808080
	)
	i := 0
	for ; i+8 <= len(s); i += 8 {
		x := uint64(s[i]) | uint64(s[i+1])<<8 | uint64(s[i+2])<<16 | uint64(s[i+3])<<24 |
			uint64(s[i+4])<<32 | uint64(s[i+5])<<40 | uint64(s[i+6])<<48 | uint64(s[i+7])<<56
		// A high bit is left where a byte is below ' ' (first term), above 0x7f (second) or
		// 0x7f itself (third). Borrows and carries start only at such a byte, so the answer
		// "none" is exact; any other goes to the slow path.
		if ((x-' '*ones)&^x|x|(x+ones))&highs != 0 {
			break
		}
	}
	for ; i < len(s); i++ {
		if c := s[i]; c < ' ' || c > '~' {
			return isEveryRune(s[i:], isNameRune)
		}
	}
	return true
}

// isNameRune is printable ASCII or a Unicode word character: letters, marks, digits,
// connector punctuation, and the two join controls (rule 2).
func isNameRune(r rune) bool {
	if r < utf8.RuneSelf {
		return ' ' <= r && r <= '~'
	}
	return unicode.In(r, unicode.L, unicode.M, unicode.Nd, unicode.Pc) || r == '\u200c' || r == '\u200d'
}

// isEveryRune is false for invalid UTF-8, and for U+FFFD itself, which no class holds.
func isEveryRune(s string, class func(rune) bool) bool {
	for _, r := range s {
		if r == utf8.RuneError || !class(r) {
			return false
		}
	}
	return true
}

// decisionOf turns ParseRequest's error into the Decision it stands for.
func decisionOf(err error) Decision {
	if errors.Is(err, ErrMalformed) {
		return Decision{Malformed: err}
	}
	return Decision{Err: err}
}
