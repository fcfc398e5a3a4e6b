package cloudsync

import (
	"errors"
	"strings"
	"testing"
)

func TestGuessedPathsAreNeverUsedAgainstAWS(t *testing.T) {
	custom := Route{Method: "POST", Path: "/told/by/the/operator"}
	for host, aws := range map[string]bool{
		"greengrass-ats.iot.eu-west-1.amazonaws.com":     true,
		"greengrass-ats.iot.eu-west-1.AmazonAWS.com.":    true,
		"greengrass.ats.iot.cn-north-1.amazonaws.com.cn": true,
		"greengrass-ats.iot.eusc-de-east-1.amazonaws.eu": true,
		"iot.us-east-1.api.aws":                          true,
		"greengrass-ats.iot.us-iso-east-1.c2s.ic.gov":    true,
		"amazonaws.com":         true,
		"notamazonaws.com":      false,
		"amazonaws.com.example": false,
		"localhost":             false,
		"127.0.0.1":             false,
	} {
		both := []Operation{OpVerifyIdentity, OpVerifyAssociation}
		_, err := routesFor(host, nil, both...)
		if got := errors.Is(err, ErrUnpublishedPath); got != aws {
			t.Errorf("%s: got %v, want refusal %v", host, err, aws)
		}
		if _, err := routesFor(host, Routes{OpVerifyIdentity: custom}, both...); errors.Is(err, ErrUnpublishedPath) != aws {
			t.Errorf("%s with one of two paths set: got %v, want refusal %v", host, err, aws)
		}
		routes, err := routesFor(host, Routes{OpVerifyIdentity: custom, OpVerifyAssociation: custom}, both...)
		if err != nil || routes[OpVerifyIdentity] != custom || routes[OpVerifyAssociation] != custom {
			t.Errorf("%s with both paths set: got %v, %v", host, routes, err)
		}
		if _, err := routesFor(host, Routes{OpVerifyIdentity: custom, OpVerifyAssociation: custom}, OpPutAuthorities); errors.Is(err, ErrUnpublishedPath) != aws {
			t.Errorf("%s without a path for the authorities: got %v, want refusal %v", host, err, aws)
		}
	}
}

func TestBadRoutesAreRefused(t *testing.T) {
	for name, given := range map[string]Routes{
		"unknown operation":  {"Discover": {Method: "GET", Path: "/x"}},
		"no method":          {OpVerifyIdentity: {Path: "/x"}},
		"GET":                {OpVerifyIdentity: {Method: "GET", Path: "/x"}},
		"relative":           {OpVerifyIdentity: {Method: "POST", Path: "x"}},
		"empty":              {OpVerifyIdentity: {Method: "POST"}},
		"root":               {OpVerifyIdentity: {Method: "POST", Path: "/"}},
		"dots":               {OpVerifyIdentity: {Method: "POST", Path: "/a/../b"}},
		"double slash":       {OpVerifyIdentity: {Method: "POST", Path: "//host/b"}},
		"query":              {OpVerifyIdentity: {Method: "POST", Path: "/a?b"}},
		"escape":             {OpVerifyIdentity: {Method: "POST", Path: "/a%2Fb"}},
		"space":              {OpVerifyIdentity: {Method: "POST", Path: "/a b"}},
		"not ASCII":          {OpVerifyIdentity: {Method: "POST", Path: "/ä"}},
		"core of a question": {OpVerifyIdentity: {Method: "POST", Path: "/a/" + CoreInPath}},
		"another variable":   {OpPutAuthorities: {Method: "PUT", Path: "/a/{core}"}},
		"part of a segment":  {OpPutAuthorities: {Method: "PUT", Path: "/a" + CoreInPath}},
		"too long":           {OpVerifyIdentity: {Method: "POST", Path: "/" + strings.Repeat("a", 300)}},
	} {
		if routes, err := routesFor("localhost", given); err == nil {
			t.Errorf("%s: accepted as %v", name, routes)
		}
	}
	changed := DefaultRoutes()
	changed[OpVerifyIdentity] = Route{}
	if DefaultRoutes()[OpVerifyIdentity] == (Route{}) {
		t.Error("a caller can change the table")
	}
}

func TestCoreInPath(t *testing.T) {
	routes, err := routesFor("localhost", Routes{OpPutAuthorities: {Method: "POST", Path: "/v9/" + CoreInPath + "/cas"}}, OpPutAuthorities)
	if got := routes[OpPutAuthorities].PathFor("core:1"); err != nil || got != "/v9/core:1/cas" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestEndpointsAreReadAsTheNucleusReadsThem(t *testing.T) {
	for given, want := range map[string]string{
		"https://a.example":      "https://a.example:8443",
		"a.example":              "https://a.example:8443",
		"a.example:443":          "https://a.example:443",
		"https://a.example:443/": "https://a.example:443",
		"https://[::1]":          "https://[::1]:8443",
	} {
		if got, err := ParseEndpoint(given); err != nil || got.String() != want {
			t.Errorf("%s: got %v, %v, want %s", given, got, err, want)
		}
	}
	for _, bad := range []string{"", "http://a.example", "https://", "https://u:p@a.example", "https://a.example/path", "https://a.example?q", "https://a.example#f", "mqtts://a", "a b", "https://:8443"} {
		if got, err := ParseEndpoint(bad); err == nil {
			t.Errorf("%q: accepted as %v", bad, got)
		}
	}
}
