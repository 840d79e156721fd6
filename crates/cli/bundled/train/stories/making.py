"""Plots about doing and making: learning, baking, planting, building, painting, tidying, helping, a rainy day, a first snow."""

from .grammar import table

LEARN = {
    "rows": table("skill fail tip done", [
        ("swim", "{H} went under and swallowed some water.", "Kick with your legs and keep your head up", "{h} swam all the way across the pond."), ("ride a bike", "{H} fell over and hurt {his} knee.", "Look straight ahead, not down at your feet", "{h} rode down the whole street."),
        ("whistle", "Only air came out.", "Make your lips small and round, like a little o", "A clear, sweet sound came out."), ("skate", "{H} slipped and sat down on the ice.", "Bend your knees and take small steps", "{h} went around the lake without falling."),
        ("climb the big tree", "{H} slid down again and again.", "Hold on with both hands and find a good place for your foot", "{h} sat on the highest branch and waved."), ("fly a kite", "The kite fell to the ground.", "Run against the wind, and let the string out slowly", "The kite went up and up, until it was only a dot in the sky."),
        ("tie {his} shoes", "The bow came undone.", "Make two rabbit ears, and put one through the hole", "{h} made two perfect bows."), ("play the drum", "It sounded awful.", "Listen first, and count to four", "Everyone began to dance."),
        ("read", "The letters danced in front of {his} eyes.", "Take one letter at a time", "{h} read a whole page, all by {him}self."), ("jump rope", "The rope caught {his} feet.", "Jump when you hear the rope touch the ground", "{h} jumped ten times, and then twenty times."),
        ("paint a horse", "It looked like a potato with legs.", "Look at it for a long time before you begin", "It looked so real that everyone was surprised."), ("catch a ball", "The ball bounced off {his} nose.", "Keep your eyes on the ball", "{h} caught it with both hands."),
        ("sing", "{His} voice squeaked.", "Breathe deep down into your belly", "{h} sang so well that the birds stopped to listen."), ("stand on {his} head", "{H} fell over with a bump.", "Put your hands down first, and do not hurry", "{h} stood on {his} head and laughed at the upside-down world."),
    ]),
    "openings": ["{h} wanted to {skill}.", "{h} wanted to learn how to {skill}.", "{h} wanted to {skill}, but {he} did not know how.", "All of {h}'s friends could {skill}, but {h} could not."],
    "beats": [
        ["{One_day} {h} said, \"I want to learn how to {skill}!\"", "More than anything, {h} wanted to learn how to {skill}.", "{One_day} {h} saw {a_f} who could {skill}. \"I want to do that, too,\" said {h}.", "But there was one thing {he} could not do. {H} could not {skill}."],
        ["{H} tried. {fail}", "{H} tried and tried, but it did not work. {fail}", "The first time, it went wrong. {fail}", "{h} tried it by {him}self. {fail} {H} tried once more. {fail}"],
        ["\"I will never learn it,\" said {h}, and {he} sat down.", "{h} was [sad|angry]. \"It is too hard,\" {he} said.", "{h} wanted to give up.", "Some of the others laughed, and {h} felt very small."],
        ["But {f} came over. \"Do not give up,\" {fhe} said. \"{tip}.\"", "{p} sat down next to {him}. \"I could not do it at first, either,\" said {P}. \"{tip}.\"", "Then {f} said, \"Let me show you. {tip}.\""],
        ["{h} practiced every day, in the sun and in the rain.", "So {h} tried again, and again, and again.", "{h} got up and tried one more time.", "Day after day, {h} practiced. It got a little better each time."],
        ["Then, {one_time}, it worked! {done}", "And this time, it worked! {done}", "At last, {he} could do it! {done}"],
        ["\"Look at me!\" shouted {h}. \"I can do it!\"", "\"Well done, {hv}!\" said {f}.", "{p} clapped. \"I am so proud of you,\" said {P}.", "\"I knew you could do it,\" said {f}."],
    ],
    "morals": ["{h} learned that you must never give up.", "It takes time to learn something new.", "The next week, {h} taught it to a friend.", "After that, {h} was not afraid to try new things."],
}

BAKE = {
    "rows": table("dish who mishap fixed", [
        ("a cake", "{p}'s birthday", "{H} dropped the eggs on the floor. Splat!", "They cleaned the floor and got new eggs from the hens."), ("a chocolate cake", "{f}'s birthday", "{H} put in salt and not sugar. Yuck!", "They laughed and began again, and this time {he} tasted it first."),
        ("a berry pie", "the summer party", "{H} had eaten all the berries!", "They went to {place} and picked a new basket of berries."), ("cookies", "all {his} friends", "The cookies got too hot and turned black.", "They made new ones, and {h} watched the clock."),
        ("bread", "a hungry neighbor", "{H} forgot the flour bag on the edge, and poof! Everything was white.", "They swept it all up, and they looked like two snowmen."), ("pancakes", "breakfast", "The first pancake landed on {his} head.", "The next one landed in the pan, just as it should."),
        ("a big pot of soup", "the whole village", "There were no carrots left.", "Each neighbor brought something, and the pot was full."), ("an apple pie", "{his} teacher", "The bowl was too small, and the dough ran over.", "They found a bigger bowl and saved the dough."),
    ]),
    "openings": ["{h} wanted to bake {dish} for {who}.", "{h} wanted to make something nice for {who}.", "\"Let's make {dish}!\" said {h}."],
    "beats": [
        ["{One_day} {h} wanted to make {dish} for {who}.", "{One_day} {h} said, \"I will make {dish} for {who}!\"", "{One_day} {h} had an idea. {H} would make {dish} for {who}."],
        ["{f} came to help. They washed their hands and put on [aprons|big white hats].", "\"Can I help?\" asked {f}. \"Yes, please!\" said {h}.", "{h} asked {f} to help, because it was a lot of work."],
        ["They got [flour and milk|butter and eggs|a big spoon and a bowl], and they stirred and stirred.", "First they read the book. Then they put everything on the table.", "{f} read the list, and {h} found the things one by one."],
        ["But then something went wrong. {mishap}", "{mishap} \"Oh no!\" said {h}.", "But {h} was not careful. {mishap}"],
        ["{h} was close to tears. \"Don't worry,\" said {f}. {fixed}", "\"We can fix this,\" said {f}. {fixed}", "For a moment, nobody spoke. Then they both began to laugh. {fixed}"],
        ["Soon a [wonderful|sweet|lovely] smell filled the house.", "When it was done, it was golden and warm.", "They waited and waited, until it was ready."],
        ["Everyone said it was the best they had ever tasted.", "\"This is so good!\" everyone said.", "They sat around the table and ate every last bit."],
    ],
    "morals": ["{h} learned that mistakes can be fixed.", "Food tastes best when it is made with love.", "Making it together was the best part."],
}

SEED = {
    "rows": table("seed plant gift", [
        ("a tiny seed", "a tall sunflower", "The birds came and ate the seeds, and they sang for {h}."), ("a small brown seed", "a big, round pumpkin", "It was so big that {h} and {f} had to roll it home."), ("a bean", "a green plant that climbed up to the window", "{h} picked the beans and made soup for everyone."),
        ("an apple seed", "a little apple tree", "When it was big, there were sweet, red apples for all."), ("a seed as small as a grain of sand", "a beautiful red flower", "{h} gave the flower to {p}."), ("a strange blue seed", "a flower that smelled of honey", "The bees came from far away to visit it."),
        ("a carrot seed", "the biggest carrot anyone had ever seen", "Everyone had to help to pull it out."), ("a handful of seeds", "a whole bed of strawberries", "{h} ate some and shared the rest."),
    ]),
    "openings": ["{h} wanted to plant a seed. So {P} gave {him} {seed}.", "{h} found {seed} {spot}.", "{h} had {seed} in {his} hand. \"What will it be?\" {he} asked."],
    "beats": [
        ["{One_day} {p} gave {h} {seed}. \"Plant it and take care of it,\" said {P}.", "{One_day} {h} found {seed} {spot}. \"What will it be?\" {he} asked.", "{One_day} {f} gave {h} {seed}. \"It is a surprise,\" {fhe} said."],
        ["{h} dug a little hole, put the seed in, and covered it with soil.", "{h} planted it in the garden where the sun was warm.", "{h} put it in a pot and set it by the window."],
        ["Every day, {he} gave it water. But nothing happened.", "{h} waited one day. {H} waited two days. Nothing came up.", "The next morning, {h} ran to look. There was only soil."],
        ["\"Maybe it is [broken|sleeping|not a real seed],\" said {h}.", "\"Why does it not grow?\" asked {h}. {H} was sad.", "{f} came by. \"There is nothing there,\" {fhe} said and laughed."],
        ["\"Be patient,\" said {P}. \"Good things take time.\"", "\"Wait a little longer,\" said {P}. \"The seed is working under the ground.\""],
        ["So {h} waited. The rain came, and the sun came. And one morning there was a tiny green leaf!", "{h} did not give up. {H} watered it and talked to it. Then, one day, a little green tip came out of the soil.", "Many days passed. Then {h} saw something green. \"It is growing!\" {he} shouted."],
        ["It grew and grew, until it was {plant}.", "Week by week, it grew taller. In the end, it was {plant}."],
        ["{gift}"],
    ],
    "morals": ["{h} learned to be patient.", "Good things take time.", "{h} was proud, because {he} had taken such good care of it."],
}

BUILD = {
    "rows": table("thing made_of crash better", [
        ("a tree house", "old boards and nails", "the wind blew, and the roof fell off", "They used more nails and tied everything with a strong rope."), ("a castle", "sand and shells", "a big wave came and washed it away", "They built it again, farther from the water, with a deep ditch around it."),
        ("a boat", "wood and a big white cloth", "water came in, and the boat began to sink", "They filled the holes with wax and tried again."), ("a bridge over the stream", "stones and branches", "it broke in the middle with a loud crack", "They looked for thicker branches and put a big stone in the middle."),
        ("a little house for the birds", "wood and paint", "it fell off the tree", "They tied it to a stronger branch with two ropes."), ("a snowman", "three big balls of snow", "the head rolled off and down the hill", "They made a smaller head and pressed it down well."),
        ("a raft", "logs and rope", "the logs drifted apart", "They learned a better knot and tied the logs again."), ("a tower", "wooden blocks", "it swayed and fell with a crash", "They made the bottom wider and began again."),
        ("a swing", "a board and two ropes", "one of the ropes broke", "They found a thicker rope, and {p} tied the knots."), ("a robot", "boxes and tin cans", "its arms fell off", "They used better glue and waited until it was dry."),
    ]),
    "openings": ["{h} wanted to build {thing}, and {f} came to help.", "\"Let's build {thing}!\" said {h}. \"Yes!\" said {f}.", "{h} and {f} wanted to build {thing}."],
    "beats": [
        ["{One_day} {h} and {f} wanted to build {thing}.", "{One_day} {h} said to {his} friend {f}, \"Let's build {thing}!\" \"Yes!\" said {f}.", "{One_day} {h} had an idea. {H} wanted to build {thing}, and {f} came to help."],
        ["They got {made_of}, and they began to work.", "They looked for {made_of}. When they had enough, they started.", "\"We need {made_of},\" said {f}. They went to {place} and found all that they needed."],
        ["They worked all morning. It looked [very good|wonderful|great].", "{h} did the top, and {f} did the bottom.", "It was hard work, but they sang as they worked."],
        ["But then, {crash}.", "They were almost done. But {crash}!", "\"It is ready!\" said {h}. Just then, {crash}."],
        ["\"Oh no!\" said {h}. \"All our work!\" {H} wanted to go home.", "\"It was your fault!\" said {h}. But then {he} saw {f}'s sad face. \"I am sorry,\" {he} said. \"It was nobody's fault.\"", "They looked at each other. Then {f} began to giggle, and {h} giggled, too."],
        ["\"Let's try again,\" said {f}. {better}", "\"I know what we did wrong,\" said {h}. {better}", "{p} came by. \"That happens to every builder,\" said {P}. {better}"],
        ["This time, it [held|was strong|worked]!", "When they were done, it was even better than before.", "In the evening, it was finished, and it was perfect."],
        ["?", "They painted it {color} and put a little flag on it.", "They called all their friends to come and see.", "They sat down beside it and ate some {food}."],
    ],
    "morals": ["{h} learned that it is good to try again.", "Two can do what one cannot.", "They were proud of what they had made together."],
}

RAIN = {
    "rows": table("plan inside", [
        ("have a picnic", "They put a blanket on the floor and had the picnic inside."), ("go to the beach", "They filled the bath with water and played with boats."), ("fly a kite", "They made paper birds and hung them from the ceiling."),
        ("ride their bikes", "They built a race track for toy cars from boxes."), ("play ball", "They rolled up socks and threw them into a basket."), ("go to the park", "They made a tent from two chairs and a big sheet."),
        ("play outside", "They put on boots and jumped in all the puddles. Splash!"), ("climb the hill", "They put on boots and floated leaves down the little stream in the street."),
    ]),
    "openings": ["It was raining, and {h} was sad. {H} and {f} wanted to {plan}.", "{h} and {f} wanted to {plan}, but it was raining.", "{h} wanted to {plan} with {f}, but the sky was dark, and it began to rain.", "Drip, drop, drip. The rain fell on the roof. {h} and {f} wanted to {plan}."],
    "beats": [
        ["{One_day} {h} and {f} wanted to {plan}. But dark clouds came, and it began to rain.", "{h} and {his} friend {f} had a plan. They wanted to {plan}. But in the morning, the sky was gray, and the rain came down."],
        ["\"Oh no,\" said {h}. \"Now we cannot {plan}.\"", "{h} looked out of the window. \"Rain, rain, go away,\" {he} said.", "\"It is not fair,\" said {h}. {H} was [very |so ]sad."],
        ["They waited, but it rained and rained.", "{f} put {fhis} nose against the glass. \"I am bored,\" {fhe} said.", "The rain did not stop."],
        ["Then {P} said, \"We can still have fun. Let us think of something.\"", "Then {f} had an idea. \"I know what we can do!\" {fhe} said.", "\"Wait!\" said {h}. \"I have an idea!\""],
        ["{inside}"],
        ["They laughed so much that they forgot the rain.", "It was so much fun that they did not see how the time went by.", "{p} brought hot chocolate and {food}."],
        ["When they looked out again, the sun was back, and there was a rainbow over {place}.", "Then the rain stopped. \"Look, a rainbow!\" said {f}. It was red, orange, yellow, green and blue.", "In the evening, the clouds went away, and a rainbow stood in the sky."],
    ],
    "morals": ["{h} learned that a rainy day can be a good day.", "\"I hope it rains tomorrow, too,\" said {h}.", "Even a bad day can turn into a good one."],
}

SNOW = {
    "night": True, "at_home": True,
    "rows": table("snow_fun", [("They made a snowman with a carrot nose and two black stones for eyes.",), ("They rolled down the hill and made angels in the snow.",), ("They rode down the hill on a sled, again and again.",),
                               ("They built a snow house with a little door.",), ("They threw snowballs at an old tree.",), ("They followed tiny tracks in the snow and found a white rabbit.",)]),
    "not_at": ("the beach", "the garden", "the pond", "the meadow", "the field"),
    "openings": ["It was winter, and everything was white. {h} had never seen so much snow.", "It was a cold winter morning. The first snow had come, and {h} saw it from the window.", "{h} wanted to see the snow. And then, one morning, everything was white!"],
    "beats": [
        ["One winter morning, {h} looked out of the window. Everything was white! \"It is snowing!\" {he} shouted.", "One cold day, the first snow fell. {h} had never seen snow before. \"What is it?\" {he} asked. \"That is snow,\" said {P}."],
        ["{h} put on {his} [boots|coat|hat] and warm gloves, and ran outside.", "{h} could not wait. {H} put on {his} warm coat and ran out of the door."],
        ["The snow was cold and soft. It crunched under {his} feet.", "{h} caught a snowflake on {his} tongue. It melted at once."],
        ["{f} came out, too. {snow_fun}", "{H} called {his} friend {f}. {snow_fun}"],
        ["But then {f} began to shiver. {fhe} had no scarf.", "Then they saw a little bird. It was cold and hungry.", "After a while, their hands and noses were red and cold."],
        ["\"Let's go in and get warm,\" said {h}.", "\"We need something warm,\" said {h}. So they ran home.", "{h} ran in and got [a warm scarf|some bread|a soft blanket]. \"Here you are,\" {he} said."],
        ["They sat by the fire and drank hot chocolate.", "{P} made hot soup for them all, and they told {phim} about their day.", "Outside, the snow fell and fell. Inside, it was warm and bright."],
    ],
    "morals": ["\"I love winter,\" said {h}.", "{h} hoped that the snow would stay for a long time."],
}

HELP = {
    "rows": table("elder job part", [
        ("an old woman", "carry her heavy bags up the hill", "It was a long way, and the bags were full of {food}."), ("an old farmer", "bring in the hay before the rain", "They worked fast, because the sky was getting dark."), ("a tired mother duck", "watch her seven little ducks", "One ran left, and one ran right, and {h} ran after them all."),
        ("an old man", "paint his fence", "{h} painted it {color}, from one end to the other."), ("the baker", "bring bread to every house in the village", "{h} knocked on each door and said good morning."), ("an old goat", "pick the apples from the high branches", "{h} climbed up and threw them down, one by one."),
        ("{his} grandma", "find her glasses", "{h} looked under the chair and behind the clock. They were on Grandma's head all the time!"), ("the teacher", "clean the room", "{h} picked up the paper and washed the windows."), ("a small ant", "carry a big crumb home", "{h} put the ant and its crumb on a leaf and carried them both."),
    ]),
    "openings": ["{h} wanted to help. So {he} went to {place} and looked around. There was {elder}, who looked very tired.", "{h} saw {elder} near {place}. \"Is something wrong?\" {he} asked.", "{h} was on {his} way to play. Then {he} met {elder}."],
    "beats": [
        ["{One_day} {h} was on {his} way to {place} to play. There {he} met {elder}, who looked very tired.", "{One_day} {h} saw {elder} near {place}. \"Is something wrong?\" {he} asked."],
        ["\"I have to {job},\" came the answer. \"But it is too much for me.\"", "\"I need to {job}, and nobody can help me.\""],
        ["{h} wanted to go and play. But {he} thought, \"My friends can wait.\"", "\"I can help you,\" said {h}.", "\"I am small, but I am strong,\" said {h}. \"Let me help!\""],
        ["So {h} helped to {job}. {part}", "{h} went to work at once. {part}"],
        ["Soon {f} came along. \"I will help, too,\" {fhe} said. With two, it was much faster.", "It took a long time, but {h} did not stop until it was done.", "{h} was tired, but {he} sang a song, and the work went faster."],
        ["\"Thank you, dear,\" said {the_elder}. \"You have a kind heart.\" And {h} got some {food} as a thank you.", "\"How can I thank you?\" asked {the_elder}. \"You do not have to,\" said {h}. \"I liked helping.\"", "When they were done, {the_elder} gave {h} {a_find}. \"This is for you,\" was all {he} heard."],
        ["?", "{h} ran to {his} friends and told them all about it.", "At home, {p} said, \"I am proud of you.\""],
    ],
    "morals": ["{h} learned that helping others makes you happy.", "It was more fun than playing.", "A small kindness can mean a lot."],
}

TIDY = {
    "at_home": True,
    "openings": ["{h}'s room was a mess. \"Please clean up,\" said {P}.", "{h} did not like to clean up. There were toys all over the floor.", "\"Please clean your room,\" said {P}. But {h} did not want to."],
    "beats": [
        ["But {h} did not like to clean up. There were toys all over the floor.", "{One_day} {P} looked into {h}'s room. \"What a mess!\" {phe} said. \"Please clean up.\"", "{One_day} {p} said, \"Please put away your things.\" But {h} did not want to."],
        ["\"Later,\" said {h}, and {he} went out to play.", "\"It is too much,\" said {h}. \"I do not know where to begin.\"", "{h} pushed everything under the bed."],
        ["Then {f} came. \"Let's play with your {c_toy}!\" {fhe} said. But {h} could not find it anywhere.", "That night, {h} got up and stepped on a toy. \"Ouch!\" {he} cried.", "Later, {h} wanted {his} {c_toy}. {H} looked and looked, but it was lost in the mess."],
        ["\"Maybe you should clean up,\" said {f}. \"I can help.\"", "\"If everything has a home, you can find it,\" said {P}.", "\"All right,\" said {h}. \"I will clean up now.\""],
        ["They made it a game. The books went on the shelf, the blocks went in the box, and the clothes went in the basket.", "First {he} put away the books. Then {he} put away the blocks. Then {he} swept the floor."],
        ["And there, under an old sock, was the {c_toy}!", "At the bottom of the pile, {he} found {his} {c_toy}. \"There you are!\" said {h}.", "{h} found {number} things that {he} had lost long ago."],
        ["\"Now it looks lovely,\" said {P}.", "The room was clean, and there was space to play.", "They played until dinner. And then {h} put everything back."],
    ],
    "morals": ["{h} learned to put things back in their place.", "After that, {h} cleaned up every evening."],
}

PLOTS = {"learn": LEARN, "bake": BAKE, "seed": SEED, "build": BUILD, "rain": RAIN, "snow": SNOW, "help": HELP, "tidy": TIDY}
