package awsemu

import (
	"crypto/hmac"
	"encoding/base64"
	"fmt"
	"strconv"

	"github.com/gatehouse-edge/gatehouse/sim/awsemu/fault"
)

// A page token is opaque: a nonce, a MAC and the name that the page before ended with.
// The MAC binds it to its listing. No two tokens are the same, as with AWS.
const (
	tokenNonceBytes = 9
	tokenMACBytes   = 18
	tokenCharsMax   = 1024
)

func (e *Emulator) pageToken(listing, after string) string {
	nonce := random(tokenNonceBytes)
	return base64.RawURLEncoding.EncodeToString(append(append(nonce, e.tokenMAC(listing, nonce, after)...), after...))
}

// readToken returns the name in a token of listing.
func (e *Emulator) readToken(listing, token string) (after string, ok bool) {
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(token) > tokenCharsMax || len(raw) < tokenNonceBytes+tokenMACBytes {
		return "", false
	}
	nonce, given := raw[:tokenNonceBytes], raw[tokenNonceBytes:][:tokenMACBytes]
	after = string(raw[tokenNonceBytes+tokenMACBytes:])
	return after, hmac.Equal(given, e.tokenMAC(listing, nonce, after))
}

func (e *Emulator) tokenMAC(listing string, nonce []byte, after string) []byte {
	return mac(e.tokenKey, fmt.Sprintf("%d:%s%s%s", len(listing), listing, nonce, after))[:tokenMACBytes]
}

// page is which part of a listing is asked for.
type page struct {
	listing string // what is listed: the operation and its parameters
	after   string // the last name of the page before; empty: from the first
	limit   int
	token   string     // what it was asked with
	fault   fault.Page // what is to go wrong with it
}

// pageOf reads maxResults and nextToken.
func (e *Emulator) pageOf(c *call, limitDefault, limitMax int) (page, *apiError) {
	return e.pageIn(c, "maxResults", "nextToken", limitDefault, limitMax)
}

// markedPageOf reads pageSize and marker: IoT's older style, whose answers have nextMarker
// (cloud spec 4.1).
func (e *Emulator) markedPageOf(c *call, limitDefault, limitMax int) (page, *apiError) {
	return e.pageIn(c, "pageSize", "marker", limitDefault, limitMax)
}

func (e *Emulator) pageIn(c *call, sizeName, tokenName string, limitDefault, limitMax int) (page, *apiError) {
	p := page{listing: fmt.Sprintf("%s%q%q", c.op, c.parameters, c.of), limit: limitDefault, token: c.query.Get(tokenName), fault: c.fault}
	if c.query.Has(sizeName) {
		n, err := strconv.Atoi(c.query.Get(sizeName))
		if err != nil || n < 1 || n > limitMax {
			return p, invalid(c, fmt.Sprintf("1 validation error detected: Value at '%s' failed to satisfy constraint: Member must have value between 1 and %d", sizeName, limitMax))
		}
		p.limit = n
	}
	if p.token != "" {
		after, ok := e.readToken(p.listing, p.token)
		if !ok {
			return p, invalid(c, "Invalid "+tokenName)
		}
		p.after = after
	}
	return p, nil
}
