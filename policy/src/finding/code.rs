//! The one table of finding codes. docs/reference/findings.md explains each; a test compares the two.

macro_rules! codes {
    ($($name:ident = $code:literal, $title:literal;)*) => {
        $(#[doc = $title] pub const $name: &str = $code;)*

        /// Every code with its title.
        pub const ALL: &[(&str, &str)] = &[$(($code, $title)),*];
    };
}

codes! {
    // Of another version.
    FOREIGN = "PAL0000", "A finding of another version of Palisade";
    // Documents.
    SYNTAX = "PAL0001", "The text is not YAML";
    TOO_LARGE = "PAL0002", "The text is larger than a limit";
    DUPLICATE_KEY = "PAL0003", "A key is written twice";
    YAML_FEATURE = "PAL0004", "Anchors, aliases and tags are not taken";
    NOT_A_MAPPING = "PAL0005", "The document is not a mapping";
    UNKNOWN_KIND = "PAL0006", "The kind is unknown";
    UNKNOWN_API_VERSION = "PAL0007", "The apiVersion does not fit the kind";
    UNKNOWN_FIELD = "PAL0008", "The field is unknown";
    UNSUPPORTED_FIELD = "PAL0009", "The field exists in Istio and is not taken here";
    WRONG_TYPE = "PAL0010", "The value has the wrong type";
    UNKNOWN_VALUE = "PAL0011", "The value is not one of those allowed";
    MISSING_FIELD = "PAL0012", "A field is missing";
    EMPTY_VALUE = "PAL0013", "A value is empty";
    BAD_NAME = "PAL0014", "A name has a form that is not allowed";
    UNSUPPORTED_KIND = "PAL0015", "The kind exists in Istio and is not taken here";
    EMPTY_LIST = "PAL0016", "An empty list constrains nothing";
    BAD_DURATION = "PAL0017", "The text is no duration";
    BAD_NUMBER = "PAL0018", "The number has a form that is not allowed";
    BAD_ROUTE_NAME = "PAL0019", "The text names no route";
    UNKNOWN_ANNOTATION = "PAL0020", "The annotation is unknown";
    BAD_TIME = "PAL0021", "The text is no time";
    // Objects beside each other.
    DUPLICATE_OBJECT = "PAL0101", "Two documents of one kind have one name";
    UNKNOWN_SERVICE = "PAL0102", "No service with this name is known";
    HOST_TAKEN = "PAL0103", "Two objects claim one host";
    HOST_OF_ANOTHER_NAMESPACE = "PAL0104", "The host belongs to another namespace";
    SCOPE_TAKEN = "PAL0105", "Two objects hold for the same workloads";
    MESH_CONFIG_PLACE = "PAL0106", "MeshConfig has one place and one name";
    UNKNOWN_SERVICE_ACCOUNT = "PAL0107", "No service with this service account is known";
    UNKNOWN_ROUTE = "PAL0108", "No route with this name is known";
    UNKNOWN_SUBSET = "PAL0109", "No subset with this name is known";
    // AuthorizationPolicy.
    NO_RULES = "PAL1001", "A DENY or AUDIT policy without rules never matches";
    CUSTOM_ACTION = "PAL1002", "The action CUSTOM is not taken";
    TARGET_REFS = "PAL1003", "targetRefs are not taken";
    PRINCIPAL_SCHEME = "PAL1004", "A principal is written without spiffe://";
    SERVICE_ACCOUNT_COMBINED = "PAL1005", "serviceAccounts cannot stand beside principals or namespaces";
    BAD_PORT = "PAL1006", "The text is no port";
    BAD_ADDRESS_BLOCK = "PAL1007", "The text is no address and no CIDR block";
    UNKNOWN_CONDITION_KEY = "PAL1008", "The condition key is unknown";
    BAD_PATH_TEMPLATE = "PAL1009", "The path template is malformed";
    INNER_WILDCARD = "PAL1010", "A * inside a value is an ordinary character";
    EMPTY_PART = "PAL1011", "A part of a rule says nothing";
    BAD_SERVICE_ACCOUNT = "PAL1012", "The text is no service account";
    BAD_DRY_RUN = "PAL1013", "The dry-run annotation is neither true nor false, or tries what decides nothing";
    NEEDS_TOKEN = "PAL1014", "The attribute comes from a token, and no RequestAuthentication reads one here";
    UNSUPPORTED_CONDITION_KEY = "PAL1015", "The condition key exists in Istio and is not taken here";
    NEVER_MATCHES = "PAL1016", "The value can never match";
    NOT_FOR_WORKLOAD = "PAL1017", "The policy does not select the workload it was sent to";
    // PeerAuthentication.
    PORT_LEVEL_WITHOUT_SELECTOR = "PAL1101", "portLevelMtls needs a selector";
    ROOT_SELECTOR = "PAL1102", "A PeerAuthentication of the root namespace has no selector";
    // ServiceEntry.
    BAD_HOST = "PAL1201", "The text is no host name";
    BAD_ENDPOINT = "PAL1202", "The endpoint does not fit the resolution";
    NO_IDENTITY = "PAL1203", "A service inside the mesh has no identity";
    DUPLICATE_PORT = "PAL1204", "Two ports have one number or one name";
    NO_ENDPOINTS = "PAL1205", "A STATIC entry has no endpoints";
    BAD_EXPORT = "PAL1206", "exportTo takes \".\" and \"*\"";
    BAD_ALT_NAME = "PAL1207", "The subjectAltName does not fit the location";
    UNKNOWN_PORT_NAME = "PAL1208", "An endpoint names a port that the entry does not have";
    ENDPOINT_WEIGHT = "PAL1209", "The weight of an endpoint is out of its range";
    // DestinationRule.
    TLS_FIELDS = "PAL1301", "The TLS fields do not fit the mode";
    MESH_TLS = "PAL1302", "A service of the mesh is reached by mesh TLS only";
    TRAFFIC_RANGE = "PAL1303", "A number or a duration of a traffic policy is out of its range";
    LOAD_BALANCER = "PAL1304", "The load balancing cannot be done so";
    BAD_SUBSET = "PAL1305", "The name of a subset cannot be one, or is there twice";
    PORT_WITHOUT_TLS = "PAL1306", "Settings of a port do without the TLS of the other ports";
    SUCCESS_RATE = "PAL1307", "The annotation about success rates is neither on nor off";
    TRAFFIC_EMPTY = "PAL1308", "A part of a traffic policy says nothing";
    LOCAL_FAILURES = "PAL1309", "Failures to connect are counted apart only where a rule says so";
    // MeshConfig.
    BAD_TRUST_DOMAIN = "PAL1401", "The text is no trust domain";
    FAULT_LIMITS = "PAL1402", "The longest duration of experiments is out of its range";
    // RateLimitPolicy.
    NO_LIMITS = "PAL2001", "The policy has no limits";
    LIMIT_RANGE = "PAL2002", "A number or a duration is out of its range";
    LIMIT_NAME = "PAL2003", "Two limits of one policy have one name";
    BAD_LIMIT_KEY = "PAL2004", "The text is no part of a key";
    NO_LIMIT_STORE = "PAL2005", "onStoreFailure is for limits of scope mesh";
    // RequestGuard.
    GUARD_EMPTY = "PAL2101", "The guard or a rule of it asks nothing";
    GUARD_RULE = "PAL2102", "Two rules of one guard have one name";
    GUARD_RANGE = "PAL2103", "A number of a guard is out of its range";
    GUARD_METHOD = "PAL2104", "A method of a guard does not do what it seems to";
    GUARD_CONTENT_TYPE = "PAL2105", "The text is no content type that a guard can take";
    GUARD_HEADER = "PAL2106", "The header is not one that guards forbid or strip";
    // RetryPolicy.
    RETRY_EMPTY = "PAL2301", "The policy says nothing about repeated requests";
    RETRY_RULE = "PAL2302", "A rule about repeated requests does not mean what it says";
    RETRY_KEY = "PAL2303", "The header cannot hold an idempotency key";
    RETRY_RANGE = "PAL2304", "A number or a duration about duplicates is out of its range";
    // FaultExperiment.
    EXPERIMENT_EMPTY = "PAL2401", "The experiment is for no calls";
    EXPERIMENT_RANGE = "PAL2402", "A number or a duration of an experiment is out of its range";
    EXPERIMENT_FAULT = "PAL2403", "The parts of a fault do not go together";
    EXPERIMENT_CALLER = "PAL2404", "The experiment does not reach the caller";
    EXPERIMENT_MATCH = "PAL2405", "Requests cannot be told apart by this";
    EXPERIMENT_TOO_LONG = "PAL2406", "The experiment lasts longer than the mesh allows";
    EXPERIMENT_PROTECTED = "PAL2407", "The mesh protects the identity from faults";
    // PolicyTest.
    POLICY_TEST = "PAL2201", "A PolicyTest says what cannot be asked";
    // Rehearsal.
    REHEARSAL = "PAL2501", "A Rehearsal says what cannot be played";
    // Identity of a workload.
    BAD_WORKLOAD = "PAL1501", "The workload's id is not of the form /ns/<namespace>/sa/<service-account>";
    // Gateway.
    GATEWAY_SELECTOR = "PAL1601", "A Gateway has a selector";
    GATEWAY_TLS = "PAL1602", "The TLS fields do not fit the server";
    GATEWAY_CONFLICT = "PAL1603", "Two servers claim one host or one port";
    // VirtualService.
    ROUTE_GATEWAYS = "PAL1701", "The routes are not for whom they seem to be";
    UNKNOWN_GATEWAY = "PAL1702", "No Gateway with this name is known";
    HOST_NOT_SERVED = "PAL1703", "The Gateway serves no such host";
    HOST_NOT_ADMITTED = "PAL1704", "The Gateway does not give this host to routes of this namespace";
    ROUTE_ACTION = "PAL1705", "A route does one thing, and has the fields that go with it";
    BAD_PATTERN = "PAL1706", "The pattern cannot be matched";
    BAD_WEIGHT = "PAL1707", "The weights share nothing out";
    BAD_HEADER = "PAL1708", "The header is not one that routes match or change";
    ROUTE_RANGE = "PAL1709", "A number, a duration or a size of a route is out of its range";
    BAD_REWRITE = "PAL1710", "The rewrite or redirect leads nowhere";
    CORS_OPEN = "PAL1711", "The CORS policy lets in more origins than it names";
    BAD_CORS = "PAL1712", "The CORS policy says what browsers do not understand";
    ROUTE_NAME = "PAL1713", "Two routes of one VirtualService have one name";
    ROUTE_RETRIES = "PAL1714", "The retries do not mean what they say";
    ROUTE_FAULT = "PAL1715", "The fault cannot be injected as it is written";
    ROUTES_OF_ONE_NAMESPACE = "PAL1716", "The routes hold for calls from their own namespace alone";
    // RequestAuthentication.
    JWT_KEYS = "PAL1801", "A token rule does not say where its keys are, or says what cannot be used";
    JWT_LOCATION = "PAL1802", "A place of tokens cannot be one";
    JWT_OUTPUT = "PAL1803", "A claim cannot be handed on so";
    JWT_ISSUERS_NESTED = "PAL1804", "One issuer of a workload is another one and a slash";
    JWT_RANGE = "PAL1805", "A number or a duration about tokens is out of its range";
    // JwtPolicy.
    JWT_POLICY_EMPTY = "PAL1901", "The policy says nothing about tokens";
    JWT_ALGORITHM = "PAL1902", "The algorithm is not served, or does not fit the keys";
    JWT_SECRET = "PAL1903", "The secret is not one that can be used";
    JWT_ISSUER_TWICE = "PAL1904", "One issuer is spoken of twice for the same workloads";
    JWT_RULE = "PAL1905", "A rule about access does not mean what it says";
    JWT_NOTHING_PASSES = "PAL1906", "A token is asked for where none is read";
    JWT_ISSUER_UNUSED = "PAL1907", "No RequestAuthentication takes tokens of the issuer";
    // What documents lead to: the edge.
    OPEN_ROUTE = "PAL3001", "A route of an edge needs no token and is not marked public";
    TOKEN_NOT_NEEDED = "PAL3002", "Tokens are read and nothing needs one";
    WRITE_BY_READ_SCOPE = "PAL3003", "A scope for reading is enough to write";
    LOGIN_WITHOUT_LIMIT = "PAL3004", "A route that takes credentials has no rate limit";
    CORS_WIDE = "PAL3005", "The CORS policy lets in pages of strangers";
    UNREACHABLE_ROUTE = "PAL3006", "No request comes to the route";
    INEFFECTIVE_MATCH = "PAL3007", "No request comes to an item of a match";
    UPSTREAM_PLAINTEXT = "PAL3008", "A service behind an edge takes calls in plaintext";
    UPSTREAM_OPEN = "PAL3009", "A service behind an edge takes from everybody what its route takes";
    UNREACHABLE_ACCESS = "PAL3010", "No request comes to a rule of a JwtPolicy";
    MESH_IDENTITY_AT_EDGE = "PAL3011", "A rule at an edge asks for an identity that nobody outside has";
    UNBOUNDED_BODY = "PAL3012", "A route of an edge takes bodies of any size";
    PLAINTEXT_BESIDE_TLS = "PAL3013", "What an edge serves in TLS it serves in plaintext too";
    PATH_SPELLING = "PAL3014", "A limit or a guard at an edge is for one spelling of a path";
    // What documents lead to: access rules.
    RULE_DENIED = "PAL3101", "A DENY takes all that the rule allows";
    RULE_COVERED = "PAL3102", "Another rule does all that the rule does";
    DENY_PLAINTEXT = "PAL3103", "A DENY by identity lets callers without a certificate pass";
    PATH_PREFIX = "PAL3104", "A path prefix does not end where a segment ends";
    DENY_WITHOUT_FOLDER = "PAL3105", "A DENY of what is below a path leaves the path itself open";
    PATH_CONFUSION = "PAL3106", "Paths that servers read differently get past the rule";
    PATH_CASE = "PAL3107", "A DENY by path counts on letters being written one way";
    HTTP_ON_TCP = "PAL3108", "A rule looks at HTTP on a port without HTTP";
    SPLIT_RULE = "PAL3109", "Two items stand where one may be meant";
    HOST_WITHOUT_PORT = "PAL3110", "A host is allowed without a port behind it";
    NO_SERVER_NAME = "PAL3111", "A rule goes by a server name that callers of the mesh do not send";
    // What documents lead to: traffic.
    FAULT_WITHOUT_END = "PAL3201", "A fault has no end";
    RETRY_OF_UNSAFE = "PAL3202", "Retries are asked for where a request must not be done twice";
    // What documents lead to: traffic policies of DestinationRules.
    EJECTS_ALL = "PAL3211", "All endpoints may be left out at once";
    EJECTS_ONLY = "PAL3212", "The only endpoint may be left out";
    UNUSED_SUBSET = "PAL3213", "No route names the subset";
    EMPTY_SUBSET = "PAL3214", "A subset has no endpoints";
    INEFFECTIVE_SETTING = "PAL3215", "A setting of a traffic policy changes nothing";
    HIDDEN_TLS = "PAL3216", "A rule hides the TLS of another";
    // What documents lead to: requests that are repeated.
    UNSAFE_IDEMPOTENT = "PAL3221", "Requests that may change something are said to be idempotent";
    // What documents lead to: experiments.
    EXPERIMENT_OVER = "PAL3231", "The experiment is over";
    EXPERIMENT_WITHOUT_HTTP = "PAL3232", "The experiment is for ports without HTTP";
    // About lint itself.
    BAD_IGNORE = "PAL3901", "The annotation that ignores findings cannot be read";
    UNUSED_IGNORE = "PAL3902", "The annotation ignores nothing";
}

/// Codes that Istio's analyzer gives to the same problem, for teams who know them by these.
const ALIASES: &[(&str, &[&str])] = &[
    (UNKNOWN_SERVICE, &["IST0101", "IST0112", "IST0174"]),
    (BAD_DRY_RUN, &["IST0125"]),
    (GATEWAY_CONFLICT, &["IST0145"]),
    (UNKNOWN_GATEWAY, &["IST0101"]),
    (UNKNOWN_SUBSET, &["IST0101"]),
    (HOST_NOT_SERVED, &["IST0132"]),
    (UNREACHABLE_ROUTE, &["IST0130"]),
    (INEFFECTIVE_MATCH, &["IST0131"]),
];

/// What Istio calls a code.
pub fn aliases(code: &str) -> &'static [&'static str] {
    ALIASES.iter().find(|(ours, _)| *ours == code).map(|(_, theirs)| *theirs).unwrap_or_default()
}

/// What a code stands for.
pub fn title(code: &str) -> Option<&'static str> {
    ALL.iter().find(|(known, _)| *known == code).map(|(_, title)| *title)
}

/// Whether a code is about what documents lead to, not about their form.
pub fn is_of_meaning(code: &str) -> bool {
    code.starts_with("PAL3")
}

/// The table's own spelling of a code that came by wire.
pub fn lookup(code: &str) -> Option<&'static str> {
    ALL.iter().find(|(known, _)| *known == code).map(|(known, _)| *known)
}
