<?php

// Symfony's Mercure component, and its client of streams, as Debian has them. Arguments: the URL of a hub,
// and a token. With a topic as the third one, an event is published to it and its id is printed. Else
// each event is printed as a line of JSON: client, type, id, data. The end of the client has the type "end".

require 'Symfony/Component/HttpClient/autoload.php';
require 'Symfony/Component/Mercure/autoload.php';

use Symfony\Component\HttpClient\Chunk\ServerSentEvent;
use Symfony\Component\HttpClient\EventSourceHttpClient;
use Symfony\Component\Mercure\Hub;
use Symfony\Component\Mercure\Jwt\StaticTokenProvider;
use Symfony\Component\Mercure\Update;

[, $url, $token] = $argv;
$mercure = "$url/.well-known/mercure";

if (isset($argv[3])) {
    $hub = new Hub($mercure, new StaticTokenProvider($token));
    exit($hub->publish(new Update([$argv[3], 'another'], 'ü', false, 'own', 'greeting', 500)));
}

$print = function (...$fields) {
    echo json_encode(["EventSourceHttpClient (Symfony)", ...$fields]), "\n";
};
$client = new EventSourceHttpClient();
$source = $client->connect("$mercure?last_event_id=earliest&topic=t");
while ($source) {
    foreach ($client->stream($source) as $chunk) {
        if ($chunk->isTimeout()) {
            continue;
        }
        if ($chunk->isLast()) {
            $print('end', '', '');
            exit;
        }
        if ($chunk instanceof ServerSentEvent) {
            $print($chunk->getType(), $chunk->getId(), $chunk->getData());
        }
    }
}
